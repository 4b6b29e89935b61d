-- Hashes every record of this export again, in DuckDB. Run it in the export's directory: duckdb -f VERIFY.sql
-- Each row is damage, named by topic, partition and offset; no row means that value, leaf and hash of every row agree.
-- It says nothing about signatures and about what is missing: verify.py does.
WITH rows AS (
  SELECT topic, partition, "offset", id, value, value_sha256, leaf, leaf_sha256, appended, type, "key", stream,
         decode(leaf)::JSON AS told
  FROM read_parquet('records/*.parquet')
), checked AS (
  SELECT topic, partition, "offset", id, CASE
    WHEN sha256('\x00'::BLOB || leaf) <> leaf_sha256 THEN 'the leaf has another hash'
    WHEN sha256(coalesce(value, ''::BLOB)) <> value_sha256 THEN 'the value has another hash'
    WHEN value IS NOT NULL AND told->>'sha256' <> value_sha256 THEN 'the leaf is of another value'
    WHEN (told->>'offset')::BIGINT <> "offset" THEN 'the leaf is of another offset'
    WHEN (told->>'appended')::BIGINT <> epoch_ms(appended) THEN 'the leaf is of another append time'
    WHEN "offset" = lag("offset") OVER (PARTITION BY topic, partition ORDER BY "offset") THEN 'it is there twice'
  END AS damage
  FROM rows
)
SELECT * FROM checked WHERE damage IS NOT NULL ORDER BY topic, partition, "offset";
