SELECT
  CAST(i.item_ref AS VARCHAR)               AS id,
  i.article_no                              AS sku,
  i.label                                   AS title,
  i.long_text                               AS description,
  i.price                                   AS list_price,
  CAST(i.weight_g * 0.001 AS DECIMAL(8, 3)) AS weight_kg,
  CAST(NOT i.sellable AS TINYINT)           AS discontinued
FROM erp.items AS i
