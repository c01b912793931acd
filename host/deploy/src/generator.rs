//! The texts of the generators of identities, in the language of the server; byte by byte those of
//! the original, which would replace any other. `table` and `name` are quoted.

/// One more than the largest among the rows that agree in the fields before.
pub(crate) fn integer_offset(table: &str, name: &str, basis: &[String]) -> String {
    let same: Vec<String> = basis.iter().map(|other| format!("{other} = NEW.{other}")).collect();
    let from = match same.as_slice() {
        [] => format!("FROM {table};"),
        same => format!("FROM {table}\n            WHERE {};", same.join(" AND ")),
    };
    format!(
        "IF NEW.{name} IS NULL THEN
    DECLARE
        _offset int8;
    BEGIN
        SELECT max({name}) INTO _offset
            {from}
        NEW.{name} := coalesce(_offset, 0) + 1;
    END;
END IF;"
    )
}

/// As [`integer_offset`], as three digits.
pub(crate) fn text_offset(table: &str, name: &str, basis: &[String]) -> String {
    let same: String = basis.iter().map(|other| format!(" AND {other} = NEW.{other}")).collect();
    format!(
        "IF NEW.{name} IS NULL THEN
    DECLARE
        _offset int4;
    BEGIN
        SELECT CAST(max({name}) AS int4) INTO _offset
            FROM {table}
            WHERE {name} ~ '^[0-9]{{3}}$'{same};
        NEW.{name} := to_char(coalesce(_offset, 0) + 1, 'FM000');
    END;
END IF;"
    )
}

/// A number of up to nine digits that no row has.
pub(crate) fn integer_random(table: &str, name: &str) -> String {
    random(table, name, "        _key int8;", " trunc((random()*999999999) + 1)")
}

/// A letter, two digits, a letter, four digits, which no row has.
pub(crate) fn text_random(table: &str, name: &str) -> String {
    const LETTERS: &str = "ABCDEFGHJKLMNPQRTUVWXYZ";
    const DIGITS: &str = "0123456789";
    let listed = |all: &str| all.chars().map(|c| c.to_string()).collect::<Vec<_>>().join(",");
    let letter = format!("_letters[1 + trunc(random()*{})]", LETTERS.len());
    let digit = format!("_digits[1 + trunc(random()*{})]", DIGITS.len());
    let key = [&letter, &digit, &digit, &letter, &digit, &digit, &digit, &digit]
        .map(|part| format!("            {part}"))
        .join(" ||\n");
    let (letters, digits) = (listed(LETTERS), listed(DIGITS));
    let declared = format!(
        "        _letters text[] := '{{{letters}}}';
        _digits text[] := '{{{digits}}}';
        _key text;"
    );
    random(table, name, &declared, &format!("\n{key}"))
}

/// Draws keys until there is one that no row has.
fn random(table: &str, name: &str, declared: &str, key: &str) -> String {
    format!(
        "WHILE NEW.{name} IS NULL LOOP
    DECLARE
{declared}
    BEGIN
        _key :={key};
        PERFORM id
            FROM {table}
            WHERE {name} = _key;
        IF NOT FOUND THEN
            NEW.{name} := _key;
        END IF;
    END;
END LOOP;"
    )
}

pub(crate) fn text_uuid(name: &str) -> String {
    format!("IF NEW.{name} IS NULL THEN\n    NEW.{name} := gen_random_uuid();\nEND IF;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(got: &str, expected: &str) {
        assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn offsets_count_among_the_rows_that_agree_before() {
        check(
            &integer_offset("\"job\"", "\"code\"", &[]),
            "IF NEW.\"code\" IS NULL THEN DECLARE _offset int8; BEGIN SELECT max(\"code\") INTO _offset \
             FROM \"job\"; NEW.\"code\" := coalesce(_offset, 0) + 1; END; END IF;",
        );
        check(
            &integer_offset("\"t\"", "\"n\"", &["\"a_id\"".to_owned(), "\"b\"".to_owned()]),
            "IF NEW.\"n\" IS NULL THEN DECLARE _offset int8; BEGIN SELECT max(\"n\") INTO _offset FROM \
             \"t\" WHERE \"a_id\" = NEW.\"a_id\" AND \"b\" = NEW.\"b\"; NEW.\"n\" := \
             coalesce(_offset, 0) + 1; END; END IF;",
        );
    }
}
