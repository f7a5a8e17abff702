//! Whether rows of one table fit into the other: columns are paired by name, and what would be lost refuses.

use super::layout::{Column, Layout};
use crate::clients::db::Word;

/// How two layouts compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Columns that are copied, in the destination's order.
    pub columns: Vec<String>,
    /// Columns that only the source has: nothing is lost only where they hold nothing but their default.
    pub source_only: Vec<Column>,
    /// Reasons against a copy, one each.
    pub reasons: Vec<String>,
    /// Columns that take less than the source's: whether that is a reason depends on the rows.
    pub doubts: Vec<Doubt>,
}

/// What some rows may not survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The reason against a copy, if such a row is there.
    pub reason: String,
    /// The SQL condition that such rows meet at the source.
    pub condition: String,
}

/// Compares the layouts of one table on both sides. `rewritten` columns need not have the same type: their
/// values are not the source's.
pub fn compare_layouts(source: &Layout, destination: &Layout, rewritten: &[&str]) -> Comparison {
    let mut comparison = Comparison::default();
    let table = &destination.table;
    for to in &destination.columns {
        if to.generated {
            continue;
        }
        match source.column(&to.name) {
            Some(from) => {
                if !rewritten.contains(&to.name.as_str()) {
                    match narrower(from, to) {
                        Some(reason) => comparison.reasons.push(format!("{table}.{}: {reason}", to.name)),
                        None => comparison.doubts.extend(doubts(table, from, to)),
                    }
                }
                comparison.columns.push(to.name.clone());
            }
            None if to.nullable || to.default.is_some() => {}
            None => comparison
                .reasons
                .push(format!("{table}.{}: the source has no such column, and it has no default", to.name)),
        }
    }
    for from in source.columns.iter().filter(|c| !c.generated) {
        match destination.column(&from.name) {
            None => comparison.source_only.push(from.clone()),
            Some(to) if to.generated => {
                comparison.reasons.push(format!("{table}.{}: computed at the destination only", from.name));
            }
            Some(_) => {}
        }
    }
    for column in rewritten {
        if !comparison.columns.iter().any(|name| name == column) {
            comparison.reasons.push(format!("{table}.{column}: is to be rewritten, but both sides do not have it"));
        }
    }
    comparison
}

/// Why values of `from` may not fit into `to`.
fn narrower(from: &Column, to: &Column) -> Option<String> {
    let types = || format!("{} does not fit into {}", from.column_type, to.column_type);
    let charsets = || Some(format!("text in {} into {}", from.charset.as_ref()?, to.charset.as_ref()?));
    if from.nullable && !to.nullable {
        return Some("may be NULL at the source but not at the destination".into());
    }
    if from.column_type == to.column_type && from.charset == to.charset {
        return None;
    }
    let fits = match (class(from), class(to)) {
        (Class::Integer(a), Class::Integer(b)) => {
            let padded = |c: &Column| c.column_type.contains("zerofill");
            let wide = if from.is_unsigned() == to.is_unsigned() { a <= b } else { from.is_unsigned() && a < b };
            wide && !padded(from) && !padded(to)
        }
        (Class::Text, Class::Text) => {
            if !charset_fits(from, to) {
                return charsets();
            }
            match to.data_type.as_str() {
                // A char loses the spaces at its end, so nothing else fits into one.
                "char" => from.data_type == "char" && from.characters <= to.characters,
                // Shorter ones are a matter of the texts in them.
                _ => true,
            }
        }
        (Class::Binary, Class::Binary) => {
            // A shorter `binary` in a longer one would be padded with zeros.
            from.data_type != "binary" && to.data_type != "binary" && from.octets <= to.octets
        }
        (Class::Exact, Class::Exact) => {
            from.data_type == to.data_type
                && from.is_unsigned() >= to.is_unsigned()
                && whole_digits(from) <= whole_digits(to)
                && from.precision.1 == to.precision.1
        }
        // Numbers and times are compared as the server writes them, so their number of decimals must agree.
        (Class::Time, Class::Time) => from.data_type == to.data_type && from.precision.0 == to.precision.0,
        (Class::List, Class::List) => {
            from.data_type == to.data_type
                && charset_fits(from, to)
                && to.column_type.trim_end_matches(')').starts_with(from.column_type.trim_end_matches(')'))
        }
        _ => false,
    };
    (!fits).then(types)
}

/// What of a text the destination's column cannot take, though it takes most.
fn doubts(table: &str, from: &Column, to: &Column) -> Vec<Doubt> {
    if !matches!((class(from), class(to)), (Class::Text, Class::Text)) {
        return Vec::new();
    }
    let column = format!("`{}`", from.name);
    let doubt = |why: String, condition| Doubt { reason: format!("{table}.{}: holds {why}", to.name), condition };
    let mut doubts = Vec::new();
    if to.data_type == "varchar" && from.characters > to.characters {
        let most = to.characters.unwrap_or(0);
        doubts.push(doubt(format!("texts of more than {most} characters"), format!("CHAR_LENGTH({column}) > {most}")));
    }
    if to.data_type != "varchar" && from.octets > to.octets {
        let most = to.octets.unwrap_or(0);
        doubts.push(doubt(format!("texts of more than {most} bytes"), format!("LENGTH({column}) > {most}")));
    }
    let is_mb4 = |column: &Column| column.charset.as_ref().map(|set| set.as_str() == "utf8mb4");
    if is_mb4(from) == Some(true) && is_mb4(to) == Some(false) {
        doubts.push(doubt(
            "characters of four bytes, which the destination's utf8mb3 cannot hold".to_owned(),
            format!("NOT (CAST(CONVERT({column} USING utf8mb3) AS BINARY) <=> CAST({column} AS BINARY))"),
        ));
    }
    doubts
}

enum Class {
    Integer(u8),
    Exact,
    Text,
    Binary,
    Time,
    List,
    Other,
}

fn class(column: &Column) -> Class {
    match column.data_type.as_str() {
        "tinyint" => Class::Integer(1),
        "smallint" => Class::Integer(2),
        "mediumint" => Class::Integer(3),
        "int" => Class::Integer(4),
        "bigint" => Class::Integer(8),
        "decimal" => Class::Exact,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Class::Text,
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Class::Binary,
        "datetime" | "timestamp" | "time" | "date" | "year" => Class::Time,
        "enum" | "set" => Class::List,
        _ => Class::Other,
    }
}

fn whole_digits(column: &Column) -> u64 {
    column.precision.0.unwrap_or(0).saturating_sub(column.precision.1.unwrap_or(0))
}

/// Whether the bytes, or the text after conversion, can stand at the destination. From utf8mb4 into utf8mb3
/// the bytes are the same except for characters that the strict mode then refuses.
fn charset_fits(from: &Column, to: &Column) -> bool {
    from.charset == to.charset || same_bytes(from, to) || to.charset.as_ref().is_some_and(is_unicode)
}

/// Whether a text is the same bytes in both columns' character sets, so far as the destination takes it.
pub(super) fn same_bytes(from: &Column, to: &Column) -> bool {
    let unicode = |c: &Column| c.charset.as_ref().is_some_and(|s| is_unicode(s) || s.as_str() == "ascii");
    from.charset == to.charset || unicode(from) && to.charset.as_ref().is_some_and(is_unicode)
}

fn is_unicode(charset: &Word) -> bool {
    matches!(charset.as_str(), "utf8" | "utf8mb3" | "utf8mb4")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data_type: &str, charset: &str, characters: u64, octets: u64) -> Column {
        Column {
            name: "subject".into(),
            data_type: data_type.into(),
            column_type: data_type.into(),
            charset: Word::parse(charset).ok(),
            collation: None,
            nullable: true,
            default: None,
            generated: false,
            characters: Some(characters),
            octets: Some(octets),
            precision: (None, None),
        }
    }

    /// An administrator's conversion to utf8mb4 makes each text type the next longer one.
    #[test]
    fn what_a_converted_column_holds_decides() {
        let converted = text("mediumtext", "utf8mb4", 16_777_215, 16_777_215);
        let plain = text("text", "utf8mb3", 65_535, 65_535);
        assert_eq!(narrower(&converted, &plain), None);
        let conditions: Vec<_> = doubts("mail_item", &converted, &plain).into_iter().map(|d| d.condition).collect();
        assert_eq!(conditions.len(), 2, "{conditions:?}");
        assert_eq!(conditions[0], "LENGTH(`subject`) > 65535");
        assert_eq!(doubts("mail_item", &plain, &converted), []);
    }

    #[test]
    fn a_name_may_only_be_as_long_as_its_column() {
        let (long, short) = (text("varchar", "utf8mb3", 255, 765), text("varchar", "utf8mb3", 128, 384));
        assert_eq!(narrower(&long, &short), None);
        assert_eq!(doubts("tag", &long, &short)[0].condition, "CHAR_LENGTH(`subject`) > 128");
        assert_eq!(doubts("tag", &short, &long), []);
    }
}
