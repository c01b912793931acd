//! What a chain of operators is taken for, however long.

use super::*;

/// A chain is looked along once, not once for each of its names.
#[test]
fn a_long_chain_is_known_to_be_no_specifier() {
    for text in [format!("a{}", ".a".repeat(1_000)), "$a.".repeat(1_000)] {
        let text: Arc<str> = Arc::from(text);
        let tokens = scan(&text).unwrap();
        let end = tokens.len() - 1;
        let mut parser = Parser { text, tokens, position: 0, depth: 0, no_specifier_before: 0 };
        assert!(!parser.at_specifier());
        assert!(parser.no_specifier_before >= end - 1, "{}", parser.no_specifier_before);
    }
}
