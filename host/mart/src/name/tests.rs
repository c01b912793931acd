//! Names that databases can have.

use super::*;

#[test]
fn tokens_of_the_original() {
    for (text, token) in [
        ("foo", "foo"),
        ("fOo-B@r#baZ", "foo_brbaz"),
        ("0FoO", "foo"),
        ("id", "id_"),
        ("ID", "id_"),
        (&"ab".repeat(40), &"ab".repeat(40)[..63]),
    ] {
        assert_eq!(safe(text).unwrap(), token, "{text}");
    }
    let error = safe("%^$#%&^%&*&").unwrap_err().to_string();
    assert_eq!(error, "Cannot make a safe token out of \"%^$#%&^%&*&\"");
    assert!(safe("1234567890").is_err());
}
