#!/usr/bin/env bash
# Prints the migration that holds the mobile series of India, made from india_series.csv beside this script:
#   migrations/data/india_series.sh > migrations/0021_seed_prefix_india_series.sql
# A newer state of the series is a further migration, with its own date below: what is applied is never edited.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cat <<'HEAD'
-- Made by migrations/data/india_series.sh from migrations/data/india_series.csv.
-- Source: carrier data of libphonenumber (https://github.com/google/libphonenumber, Apache-2.0). Date: November 2024.

-- Mobile series of the operators that are left in India, each under the one that was given it or took its holder over (Airtel: Tata
-- Docomo, Telenor; Vi: Vodafone, Idea); those of the others, and those that several share, are "India mobile". The series are facts of
-- the numbering plan.
insert into vobiz.prefix (prefix, name, country)
select '+91' || s.series, 'India mobile, ' || o.operator || ' series', 'India'
from (values
HEAD
# One row an operator, its series in lines of at most 130 characters.
awk -F, '
  NR == 1 { next }
  $2 != operator { if (operator != "") print line "'"'"'),"; operator = $2; line = "  ('"'"'" $2 "'"'"', '"'"'" $1; next }
  length(line) + 1 + length($1) > 130 { print line; line = $1; next }
  { line = line " " $1 }
  END { print line "'"'"')) as o (operator, series_list)" }
' india_series.csv
cat <<'TAIL'
cross join regexp_split_to_table(o.series_list, '\s+') as s (series);
TAIL
