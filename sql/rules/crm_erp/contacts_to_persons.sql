SELECT
  CAST(k.id AS UUID)          AS contact_ref,
  CAST(k.account_id AS UUID)  AS customer_ref,
  k.first_name                AS given_name,
  k.last_name                 AS family_name,
  k.email                     AS email,
  k.phone                     AS phone,
  k.newsletter <> 0           AS wants_news,
  k.birthday                  AS birth_date
FROM crm.contacts AS k
