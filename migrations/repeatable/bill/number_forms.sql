-- The reader of calls (src/vobiz/number.rs) knows which numbers there are, and leaves ten digits as they came where two countries have
-- them. Who writes a rule says that the number is theirs: so each reading of it that a call may show is one of its forms.
create or replace function vobiz.number_forms(written text, home text) returns text[]
  language plpgsql immutable parallel safe
  as $$
  declare
    -- As the reader of calls: tel: before it, digits of full width, dashes of print, marks of a screen.
    plain  constant text := regexp_replace(
      translate(regexp_replace(written, '^\s*tel:', '', 'i'), '０１２３４５６７８９＋', '0123456789+'),
      '[[:space:]().\u00a0\u200b-\u200f\u2010-\u2015\u202a-\u202e\u2060\u2066-\u2069\u2212\ufeff-]', '', 'g');
    digits text := plain;
    bare   constant boolean := plain ~ '^[1-9][0-9]*$';
    number text;
    forms  text[] := array[written];
  begin
    -- Whether the 0 is in the number depends on its country: the one reading or the other.
    if strpos(written, '(0)') > 0 and plain ~ '^([+]|00)' then
      return array(select distinct f
                   from unnest(written || vobiz.number_forms(regexp_replace(written, '[(]0[)]', '0'), home)
                               || vobiz.number_forms(regexp_replace(written, '[(]0[)]', ''), home)) f order by f);
    end if;
    if plain !~ '^[+]?[0-9]+$' then
      return forms;
    end if;
    if plain ~ '^([+]|00)[1-9]' then
      digits := regexp_replace(plain, '^([+]|00)', '');
    elsif plain ~ '^0[1-9]' then
      digits := home || substr(plain, 2);
    elsif bare and (length(plain) <= 10 or not starts_with(plain, home)) then
      -- Nothing says whether the country is in it.
      forms := forms || ('+' || home || plain) || plain;
    end if;
    if length(digits) between 7 and 15 then
      number := '+' || digits;
      forms := forms || number;
      -- What a call shows that wrote it shorter, where that was not certain.
      if starts_with(digits, home) and length(digits) - length(home) >= 7 then
        forms := forms || substr(digits, length(home) + 1);
      elsif length(digits) = 10 then
        forms := forms || digits;
      end if;
    end if;
    return array(select distinct f from unnest(forms) f order by f);
  end $$;
comment on function vobiz.number_forms(text, text) is
  'The ways in which calls may show an own number for which a rule is written, by the home country: 919876543210 and 09876543210 are +919876543210.';
