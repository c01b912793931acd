//! From labels to the names of database objects. The rules are the original's: a name must fit 63
//! characters, and must not look like that of another kind of object.

use md5::{Digest, Md5};

/// What PostgreSQL keeps of a name, in bytes; labels are ASCII.
const MAX_LENGTH: usize = 63;
/// Names that begin so belong to the server.
const RESERVED_PREFIX: &str = "pg";
/// Endings that tell what a name stands for; without a suffix no name may end so.
const SUFFIXES: [&str; 7] = ["id", "pk", "uk", "fk", "chk", "seq", "enum"];

/// The name of the object that `labels` and `suffix` lead to.
pub(crate) fn mangle(labels: &[&str], suffix: Option<&str>) -> String {
    let mut separator = "_".to_owned();
    while labels.iter().any(|label| label.contains(&separator)) {
        separator.push('_');
    }
    let stem = labels.join(&separator);
    let mut name = stem.clone();
    if let Some(suffix) = suffix {
        name = name + &separator + suffix;
    }
    let begins = |word: &str| stem == word || stem.starts_with(&format!("{word}_"));
    let ends = |word: &&str| stem == **word || stem.ends_with(&format!("_{word}"));
    let is_taken = begins(RESERVED_PREFIX) || (suffix.is_none() && SUFFIXES.iter().any(ends));
    if !is_taken && name.len() <= MAX_LENGTH {
        return name;
    }
    let hash = Md5::digest(stem.as_bytes());
    let digest: String = hash.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    let tail = separator.clone() + &digest;
    if name.len() + tail.len() > MAX_LENGTH {
        let keep = MAX_LENGTH / 4;
        let resume = keep + tail.len() + separator.len() + name.len() - MAX_LENGTH;
        name = format!("{}{separator}{}", &name[..keep], &name[resume..]);
    }
    name + &tail
}

/// The label of a link by the name of its column.
pub(crate) fn link_label(column: &str) -> &str {
    match column.strip_suffix("_id") {
        Some(stem) => stem.trim_end_matches('_'),
        None => column,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_original() {
        for (labels, suffix, name) in [
            (&["foo"] as &[&str], Some("pk"), "foo_pk"),
            (&["foo", "col2"], Some("enum"), "foo_col2_enum"),
            (&["rexmart_inventory"], Some("pk"), "rexmart_inventory__pk"),
            (&["rexmart_inventory", "status"], Some("enum"), "rexmart_inventory__status__enum"),
            (&["job_rexmart_create", "job"], Some("fk"), "job_rexmart_create__job__fk"),
            (
                &["rexmart_dynamic_assessment_parent", "rexmart_dynamic_assessment"],
                Some("fk"),
                "rexmart_dynamic__parent__rexmart_dynamic_assessment__fk__b62e15",
            ),
            (&["individual_id"], None, "individual_id__3dcb2f"),
            (&["record_seq"], None, "record_seq__f4fbea"),
            (&["rexmart_dynamic_assessment"], Some("id"), "rexmart_dynamic_assessment__id"),
            (&["individual"], Some("id"), "individual_id"),
            (&["user"], None, "user"),
        ] {
            assert_eq!(mangle(labels, suffix), name);
        }
        assert!(mangle(&["pg_x"], None).starts_with("pg_x__"));
        assert_eq!(mangle(&[&"a".repeat(80)], None).len(), 63);
    }

    #[test]
    fn labels_of_links() {
        assert_eq!(link_label("individual_id"), "individual");
        assert_eq!(link_label("rexmart_dynamic_assessment__id"), "rexmart_dynamic_assessment");
        assert_eq!(link_label("other"), "other");
    }
}
