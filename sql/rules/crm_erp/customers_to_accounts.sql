SELECT
  CAST(c.account_ref AS VARCHAR)       AS id,
  c.company                            AS name,
  c.email                              AS email,
  c.phone                              AS phone,
  c.town                               AS city,
  coalesce(s.name, c.region)           AS state,
  c.credit_limit                       AS credit_limit,
  CAST(NOT c.blocked AS TINYINT)       AS active,
  c.customer_since                     AS since,
  c.remark                             AS notes
FROM erp.customers AS c
LEFT JOIN lookups.us_states AS s ON s.code = c.region
