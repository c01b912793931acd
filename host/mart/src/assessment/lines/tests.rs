//! Lines as COPY wants them.

use super::*;

#[test]
fn cells_as_copy_reads_them() {
    let mut lines = Lines::default();
    for cell in [
        Cell::Null,
        Cell::Boolean(true),
        Cell::Boolean(false),
        Cell::Integer(-1),
        Cell::Float(0.5),
        Cell::Text("a\tb\\c\r\n\\N".into()),
        Cell::Text("".into()),
    ] {
        lines.cell(&cell);
    }
    lines.end();
    lines.cell(&Cell::Integer(2));
    lines.end();
    let text = String::from_utf8(lines.text).unwrap();
    assert_eq!(text, "\\N\tt\tf\t-1\t0.5\ta\\tb\\\\c\\r\\n\\\\N\t\n2\n");
}
