-- Kilograms with three decimals become whole grams.
SELECT
  CAST(p.id AS UUID)                    AS item_ref,
  p.sku                                 AS article_no,
  p.title                               AS label,
  p.description                         AS long_text,
  p.list_price                          AS price,
  CAST(p.weight_kg * 1000 AS INTEGER)   AS weight_g,
  p.discontinued = 0                    AS sellable
FROM crm.products AS p
