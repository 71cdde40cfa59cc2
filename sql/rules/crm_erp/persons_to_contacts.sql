SELECT
  CAST(p.contact_ref AS VARCHAR)  AS id,
  CAST(p.customer_ref AS VARCHAR) AS account_id,
  p.given_name                    AS first_name,
  p.family_name                   AS last_name,
  p.email                         AS email,
  p.phone                         AS phone,
  CAST(p.wants_news AS TINYINT)   AS newsletter,
  p.birth_date                    AS birthday
FROM erp.contact_persons AS p
