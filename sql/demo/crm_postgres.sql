-- The CRM of the demo where MariaDB is not to be had: the same tables on PostgreSQL.
CREATE TABLE accounts (
  id           varchar(36) NOT NULL PRIMARY KEY,
  name         varchar(120) NOT NULL,
  email        varchar(255) NULL,
  phone        varchar(40) NULL,
  city         varchar(80) NULL,
  state        varchar(60) NULL,
  credit_limit numeric(12,2) NULL,
  active       smallint NOT NULL DEFAULT 1,
  since        date NULL,
  notes        text NULL,
  score        integer NOT NULL DEFAULT 0,
  updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE contacts (
  id          varchar(36) NOT NULL PRIMARY KEY,
  account_id  varchar(36) NOT NULL REFERENCES accounts (id),
  first_name  varchar(60) NULL,
  last_name   varchar(60) NOT NULL,
  email       varchar(255) NULL,
  phone       varchar(40) NULL,
  newsletter  smallint NOT NULL DEFAULT 0,
  birthday    date NULL
);
CREATE INDEX contacts_account ON contacts (account_id);

CREATE TABLE products (
  id           varchar(36) NOT NULL PRIMARY KEY,
  sku          varchar(24) NOT NULL,
  title        varchar(150) NOT NULL,
  description  text NULL,
  list_price   numeric(10,2) NULL,
  weight_kg    numeric(8,3) NULL,
  discontinued smallint NOT NULL DEFAULT 0
);
