-- The CRM of the demo on MariaDB. Statements end with a semicolon at the end of a line.
CREATE TABLE accounts (
  id           CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY,
  name         VARCHAR(120) NOT NULL,
  email        VARCHAR(255) NULL,
  phone        VARCHAR(40) NULL,
  city         VARCHAR(80) NULL,
  state        VARCHAR(60) NULL,
  credit_limit DECIMAL(12,2) NULL,
  active       TINYINT(1) NOT NULL DEFAULT 1,
  since        DATE NULL,
  notes        TEXT NULL,
  score        INT NOT NULL DEFAULT 0,
  updated_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) CHARACTER SET utf8mb4;

CREATE TABLE contacts (
  id          CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY,
  account_id  CHAR(36) CHARACTER SET ascii NOT NULL,
  first_name  VARCHAR(60) NULL,
  last_name   VARCHAR(60) NOT NULL,
  email       VARCHAR(255) NULL,
  phone       VARCHAR(40) NULL,
  newsletter  TINYINT(1) NOT NULL DEFAULT 0,
  birthday    DATE NULL,
  CONSTRAINT contacts_account FOREIGN KEY (account_id) REFERENCES accounts (id)
) CHARACTER SET utf8mb4;

CREATE TABLE products (
  id           CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY,
  sku          VARCHAR(24) CHARACTER SET ascii NOT NULL,
  title        VARCHAR(150) NOT NULL,
  description  TEXT NULL,
  list_price   DECIMAL(10,2) NULL,
  weight_kg    DECIMAL(8,3) NULL,
  discontinued TINYINT(1) NOT NULL DEFAULT 0
) CHARACTER SET utf8mb4;
