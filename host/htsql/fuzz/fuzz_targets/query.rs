//! Any text goes through all stages without a panic, and what parses survives printing.

#![no_main]

#[path = "../../tests/it/support.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use rex_htsql::{Naming, Params};

fuzz_target!(|text: &str| {
    if let Ok(syn) = rex_htsql::syn::parse(text) {
        let printed = syn.to_string();
        let again = rex_htsql::syn::parse(&printed).expect("the printed form parses");
        assert_eq!(again, syn);
    }
    let catalog = support::catalog(Naming::Stock);
    let _ = rex_htsql::compile(text, &catalog, &support::env(), &Params::new());
});
