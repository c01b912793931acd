//! Prints a syntax tree back as a query: on one line, without spaces where none are needed.
//!
//! The printed form is what headers show. Parsing it gives an equal tree.

use std::fmt::{self, Write};

use super::tree::{Kind, Syn, Term};

impl fmt::Display for Syn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        print(self, &mut out);
        f.write_str(&out)
    }
}

fn print(syn: &Syn, out: &mut String) {
    match syn.kind() {
        Kind::Skip => out.push('/'),
        Kind::Assign { lhs, rhs } => infix(lhs, ":=", rhs, out),
        Kind::Specify { terms, params } => {
            print_terms(terms, '.', out);
            if let Some(params) = params {
                out.push('(');
                print_terms(params, ',', out);
                out.push(')');
            }
        }
        Kind::Function { name, args } => {
            out.push_str(name);
            listed('(', args, ')', out);
        }
        Kind::Pipe { name, base, args, is_command, is_open } => {
            print(base, out);
            out.push_str(if *is_command { "/:" } else { " :" });
            out.push_str(name);
            match args.as_slice() {
                [arg] if *is_open => {
                    out.push(' ');
                    print(arg, out);
                }
                [] => {}
                _ => listed('(', args, ')', out),
            }
        }
        Kind::Operator { .. } => operators(syn, out),
        Kind::Prefix { symbol, arm } => prefix(symbol, arm, out),
        Kind::Filter { base, filter } => infix(base, "?", filter, out),
        Kind::Project { base, kernel } => infix(base, "^", kernel, out),
        Kind::Link { origin, target } => infix(origin, "->", target, out),
        Kind::Attach { condition, target } => infix(condition, "@", target, out),
        Kind::Detach { arm } => prefix("@", arm, out),
        Kind::Collect { arm } => prefix("/", arm, out),
        Kind::Direct { is_descending, base } => {
            print(base, out);
            out.push(if *is_descending { '-' } else { '+' });
        }
        Kind::Compose { base, arm } => {
            print(base, out);
            // `1.a` would be read as the decimal `1.` and a name.
            if ends_with_integer(base) {
                out.push(' ');
            }
            out.push('.');
            let at = out.len();
            print(arm, out);
            // `a.1` would be read as a name and the decimal `.1`.
            if out[at..].starts_with(|c: char| c.is_ascii_digit()) {
                out.insert(at, ' ');
            }
        }
        Kind::Unpack { index } => {
            out.push('*');
            out.push_str(index.as_deref().unwrap_or_default());
        }
        Kind::Lift => out.push('^'),
        Kind::Group { arm } => {
            out.push('(');
            print(arm, out);
            out.push(')');
        }
        Kind::Select { base, record } => infix(base, "", record, out),
        Kind::Locate { base, identity } => infix(base, "", identity, out),
        Kind::Record { items } => listed('{', items, '}', out),
        Kind::List { items } => match items.as_slice() {
            [one] => {
                out.push('(');
                print(one, out);
                out.push_str(",)");
            }
            _ => listed('(', items, ')', out),
        },
        Kind::Identity { labels, is_hard } => {
            out.push(if *is_hard { '[' } else { '(' });
            for (index, label) in labels.iter().enumerate() {
                if index > 0 {
                    out.push('.');
                }
                print(label, out);
            }
            out.push(if *is_hard { ']' } else { ')' });
        }
        Kind::Reference { name } => {
            out.push('$');
            out.push_str(name);
        }
        Kind::String { text } => quoted(text, out),
        Kind::Ident { name: text }
        | Kind::Label { text }
        | Kind::Integer { text }
        | Kind::Decimal { text }
        | Kind::Float { text } => out.push_str(text),
    }
}

/// A chain of operators, by a loop: it may be long.
fn operators(syn: &Syn, out: &mut String) {
    let mut chain = Vec::new();
    let mut first = syn;
    while let Kind::Operator { symbol, left, right } = first.kind() {
        chain.push((*symbol, right));
        first = left;
    }
    print(first, out);
    for (symbol, right) in chain.into_iter().rev() {
        out.push_str(symbol);
        print(right, out);
    }
}

fn infix(left: &Syn, symbol: &str, right: &Syn, out: &mut String) {
    print(left, out);
    out.push_str(symbol);
    print(right, out);
}

fn prefix(symbol: &str, arm: &Syn, out: &mut String) {
    out.push_str(symbol);
    print(arm, out);
}

fn listed(open: char, items: &[Syn], close: char, out: &mut String) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        print(item, out);
    }
    out.push(close);
}

fn print_terms(terms: &[Term], separator: char, out: &mut String) {
    for (index, term) in terms.iter().enumerate() {
        if index > 0 {
            out.push(separator);
        }
        if term.is_reference {
            out.push('$');
        }
        out.push_str(&term.name);
    }
}

/// A string literal; control characters and `%` become escapes.
fn quoted(text: &str, out: &mut String) {
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            c if c.is_ascii_control() || c == '%' => {
                let _ = write!(out, "%{:02X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('\'');
}

fn ends_with_integer(syn: &Syn) -> bool {
    match syn.kind() {
        Kind::Integer { .. } | Kind::Unpack { index: Some(_) } => true,
        Kind::Compose { arm, .. } | Kind::Detach { arm } | Kind::Attach { target: arm, .. } => {
            ends_with_integer(arm)
        }
        _ => false,
    }
}
