#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# sqlite3 with 400,000 rows in memory: index, joins, grouping, windows, deletion.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

need sqlite3
cat >"$scratch/script.sql" <<'SQL'
PRAGMA temp_store = MEMORY;
CREATE TABLE item(id INTEGER PRIMARY KEY, owner INTEGER, name TEXT, body BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
INSERT INTO item SELECT i, i * 7919 % 1009, 'item ' || (i * 31 % 400009), zeroblob(i % 97) FROM n;
CREATE INDEX item_owner ON item(owner, name);
CREATE INDEX item_name ON item(name);
SELECT count(*), sum(id), sum(length(body)), min(name), max(name) FROM item;
SELECT owner, count(*), group_concat(id) FROM item WHERE owner IN (3, 500, 1008) GROUP BY owner;
SELECT a.owner, count(*) FROM item a JOIN item b ON b.name = a.name AND b.id >= a.id
  GROUP BY a.owner ORDER BY 2 DESC, 1 LIMIT 5;
SELECT sum(r) FROM (SELECT rank() OVER (PARTITION BY owner ORDER BY name) AS r FROM item);
UPDATE item SET name = name || ' changed ' || hex(body) WHERE id % 3 = 0;
DELETE FROM item WHERE id % 5 < 3;
SELECT count(*), sum(length(name)) FROM item;
VACUUM;
PRAGMA integrity_check;
SQL
same_on_both sqlite3 sqlite3 -batch -init /dev/null :memory: ".read $scratch/script.sql"
