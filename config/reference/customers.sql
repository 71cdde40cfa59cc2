SELECT
  a.id                        AS account_ref,
  trim(a.name)                AS name,
  coalesce(s.code, a.state)   AS state,
  a.phone                     AS phone,
  a.credit_limit              AS credit_limit
FROM crm.accounts AS a
LEFT JOIN lookups.us_states AS s ON lower(s.name) = lower(a.state)
WHERE a.credit_status = 'approved'
