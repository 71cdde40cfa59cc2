-- A state is a name in the CRM and a code in the ERP; what is not in the list (other countries) stays as it is.
SELECT
  CAST(a.id AS UUID)          AS account_ref,
  a.name                      AS company,
  a.email                     AS email,
  a.phone                     AS phone,
  a.city                      AS town,
  coalesce(s.code, a.state)   AS region,
  a.credit_limit              AS credit_limit,
  a.active = 0                AS blocked,
  a.since                     AS customer_since,
  a.notes                     AS remark
FROM crm.accounts AS a
LEFT JOIN lookups.us_states AS s ON s.name = a.state
