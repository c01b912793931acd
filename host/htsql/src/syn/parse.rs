//! The parser: recursive descent over the tokens, one function a level of precedence.
//!
//! From loose to tight: `:=`, `/:cmd`, `:fn` and postfix `+ -`, `? ^ {}`, `|`, `&`, `!`,
//! comparison, `+ -`, `* /`, unary `+ -`, `->`, `.`, `[]`, `@`, atoms. Trees that nest deeper than
//! `MAX_NESTING`, or chain more operators than `MAX_HEIGHT`, are refused, so that no later stage
//! can run out of stack.

use std::sync::Arc;

use super::decode::decode;
use super::scan::{self, Token, scan};
use super::tree::{Kind, Syn, Term};
use crate::error::{Error, Mark, Stage};

/// Expressions that may be in each other; a chain of infix operators is one.
const MAX_NESTING: u32 = 1000;

/// Levels of the tree, each operator of a chain counted.
const MAX_HEIGHT: u32 = 20_000;

/// Assignments and directions that one list may have: each is a scope around what follows it.
const MAX_SCOPES: usize = 5_000;

/// Parentheses, brackets and prefix signs that may be open at once.
const MAX_DEPTH: u32 = 200;

/// Parses a query: percent-decodes it, splits it into tokens and builds the tree.
///
/// # Errors
/// `Got unexpected input` and the lexical errors, marked as parsing.
pub fn parse(text: &str) -> Result<Syn, Error> {
    let text: Arc<str> = Arc::from(decode(text)?);
    let tokens = scan(&text)?;
    let mut parser = Parser { text, tokens, position: 0, depth: 0, no_specifier_before: 0 };
    let syn = parser.assignment()?;
    parser.eat(";");
    if parser.peek() != &scan::Kind::End {
        return Err(parser.unexpected());
    }
    Ok(syn)
}

struct Parser {
    text: Arc<str>,
    tokens: Vec<Token>,
    position: usize,
    depth: u32,
    /// No specifier begins from `position` up to here.
    no_specifier_before: usize,
}

type Parsed = Result<Syn, Error>;

impl Parser {
    fn token(&self) -> &Token {
        // The last token is `End`, which is never consumed.
        &self.tokens[self.position.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &scan::Kind {
        &self.token().kind
    }

    fn symbol_at(&self, offset: usize) -> Option<&'static str> {
        match self.tokens.get(self.position + offset)?.kind {
            scan::Kind::Symbol(symbol) => Some(symbol),
            _ => None,
        }
    }

    fn symbol(&self) -> Option<&'static str> {
        self.symbol_at(0)
    }

    fn is(&self, symbol: &str) -> bool {
        self.symbol() == Some(symbol)
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.position += 1;
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Error> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn start(&self) -> usize {
        self.token().start
    }

    fn mark_from(&self, start: usize) -> Mark {
        let end = self.tokens[..self.position].last().map_or(start, |token| token.end.max(start));
        Mark { text: self.text.clone(), start, end }
    }

    /// A node that covers all tokens from `start` to the last consumed one.
    fn node(&self, kind: Kind, start: usize) -> Parsed {
        let syn = Syn::new(kind, self.mark_from(start));
        if syn.kind().scopes() > MAX_SCOPES {
            let mark = Mark { end: syn.mark().start, ..syn.mark().clone() };
            let message = "Found too many assignments and directions";
            return Err(Error::new(message).at(Stage::Parsing, &mark));
        }
        if syn.nesting() > MAX_NESTING {
            return Err(self.too_deep(syn.mark()));
        }
        if syn.height() > MAX_HEIGHT {
            let mark = Mark { end: syn.mark().start, ..syn.mark().clone() };
            return Err(Error::new("Found too long a chain of operators").at(Stage::Parsing, &mark));
        }
        Ok(syn)
    }

    fn too_deep(&self, mark: &Mark) -> Error {
        let mark = Mark { end: mark.start, ..mark.clone() };
        Error::new("Found too deeply nested expressions").at(Stage::Parsing, &mark)
    }

    fn unexpected(&self) -> Error {
        let token = self.token();
        let message = if token.kind == scan::Kind::End {
            "Got unexpected end of input"
        } else {
            "Got unexpected input"
        };
        let mark = Mark { text: self.text.clone(), start: token.start, end: token.end };
        Error::new(message).at(Stage::Parsing, &mark)
    }

    fn nested(&mut self, parse: impl FnOnce(&mut Parser) -> Parsed) -> Parsed {
        if self.depth >= MAX_DEPTH {
            let mark = self.mark_from(self.start());
            return Err(self.too_deep(&mark));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    // Assignments.

    fn assignment(&mut self) -> Parsed {
        self.maybe_assign(Parser::pipe)
    }

    fn maybe_assign(&mut self, body: impl FnOnce(&mut Parser) -> Parsed) -> Parsed {
        if !self.at_specifier() {
            return body(self);
        }
        let start = self.start();
        let lhs = self.specifier()?;
        self.expect(":=")?;
        let rhs = body(self)?;
        self.node(Kind::Assign { lhs, rhs }, start)
    }

    /// Whether `$a.b($c, d) :=` lies ahead. What lies ahead of one name of a chain `a.b.c` does of
    /// all, so that a chain is looked along once.
    fn at_specifier(&mut self) -> bool {
        if self.position < self.no_specifier_before {
            return false;
        }
        let (is_specifier, chain) = self.look_for_specifier();
        if !is_specifier {
            self.no_specifier_before = self.position + chain;
        }
        is_specifier
    }

    /// As `at_specifier`, with the number of tokens of the names and dots ahead.
    fn look_for_specifier(&self) -> (bool, usize) {
        let mut at = 0;
        let is_name = |at: usize| matches!(self.tokens.get(self.position + at), Some(t) if t.kind == scan::Kind::Name);
        let name = |at: &mut usize| {
            *at += usize::from(self.symbol_at(*at) == Some("$"));
            let found = is_name(*at);
            *at += 1;
            found
        };
        loop {
            if !name(&mut at) {
                return (false, at - 1);
            }
            if self.symbol_at(at) != Some(".") {
                break;
            }
            at += 1;
        }
        let chain = at;
        if self.symbol_at(at) == Some("(") {
            at += 1;
            if self.symbol_at(at) != Some(")") {
                loop {
                    if !name(&mut at) {
                        return (false, chain);
                    }
                    if self.symbol_at(at) != Some(",") {
                        break;
                    }
                    at += 1;
                    if self.symbol_at(at) == Some(")") {
                        break;
                    }
                }
                if self.symbol_at(at) != Some(")") {
                    return (false, chain);
                }
            }
            at += 1;
        }
        (self.symbol_at(at) == Some(":="), chain)
    }

    fn specifier(&mut self) -> Parsed {
        let start = self.start();
        let mut terms = vec![self.term_name()?];
        while self.eat(".") {
            terms.push(self.term_name()?);
        }
        let mut params = None;
        if self.eat("(") {
            let mut names = Vec::new();
            while !self.eat(")") {
                names.push(self.term_name()?);
                if !self.is(")") {
                    self.expect(",")?;
                }
            }
            params = Some(names);
        }
        self.node(Kind::Specify { terms, params }, start)
    }

    fn term_name(&mut self) -> Result<Term, Error> {
        let is_reference = self.eat("$");
        Ok(Term { name: self.name()?, is_reference })
    }

    fn name(&mut self) -> Result<String, Error> {
        if self.peek() != &scan::Kind::Name {
            return Err(self.unexpected());
        }
        Ok(self.take_text())
    }

    fn take_text(&mut self) -> String {
        let token = self.token();
        let text = self.text[token.start..token.end].to_string();
        self.position += 1;
        text
    }

    /// Items up to the closing symbol, which is consumed; a trailing comma is allowed.
    fn assignments(&mut self, close: &str) -> Result<Vec<Syn>, Error> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.assignment()?);
            if !self.is(close) {
                self.expect(",")?;
            }
        }
        Ok(items)
    }

    // Pipes and flows.

    fn at_command(&self) -> bool {
        self.is("/") && self.symbol_at(1) == Some(":")
    }

    fn pipe(&mut self) -> Parsed {
        let start = self.start();
        let mut base = self.flow_pipe()?;
        while self.at_command() {
            self.position += 2;
            base = self.call(base, start, true)?;
        }
        Ok(base)
    }

    /// Whether a run of signs ahead is a sort direction: `:`, `,`, `;`, `)` or `}` follows it.
    fn at_direction(&self) -> bool {
        if !matches!(self.symbol(), Some("+" | "-")) {
            return false;
        }
        let mut at = 1;
        while matches!(self.symbol_at(at), Some("+" | "-")) {
            at += 1;
        }
        matches!(self.symbol_at(at), Some(":" | "," | ";" | ")" | "}"))
    }

    fn flow_pipe(&mut self) -> Parsed {
        let start = self.start();
        let mut base = self.flow()?;
        loop {
            if matches!(self.symbol(), Some("+" | "-")) {
                let is_descending = self.is("-");
                self.position += 1;
                base = self.node(Kind::Direct { is_descending, base }, start)?;
            } else if self.eat(":") {
                base = self.call(base, start, false)?;
            } else {
                return Ok(base);
            }
        }
    }

    /// The name and arguments after `:` or `/:`.
    fn call(&mut self, base: Syn, start: usize, is_command: bool) -> Parsed {
        let name = self.name()?;
        let mut is_open = false;
        let mut args = Vec::new();
        if self.eat("(") {
            args = self.nested_items(")")?;
        } else if self.starts_flow()
            && !matches!(self.symbol(), Some("+" | "-"))
            && !(is_command && self.is("/"))
        {
            is_open = true;
            args.push(self.maybe_assign(Parser::flow)?);
        }
        self.node(Kind::Pipe { name, base, args, is_command, is_open }, start)
    }

    fn nested_items(&mut self, close: &str) -> Result<Vec<Syn>, Error> {
        let mut items = Vec::new();
        if self.depth >= MAX_DEPTH {
            let mark = self.mark_from(self.start());
            return Err(self.too_deep(&mark));
        }
        self.depth += 1;
        items.append(&mut self.assignments(close)?);
        self.depth -= 1;
        Ok(items)
    }

    /// Whether the next token can begin a flow.
    fn starts_flow(&self) -> bool {
        match self.peek() {
            scan::Kind::End | scan::Kind::Label => false,
            scan::Kind::Symbol("/") => !self.at_command(),
            scan::Kind::Symbol(symbol) => {
                matches!(*symbol, "!" | "+" | "-" | "@" | "*" | "$" | "^" | "{" | "(" | "[")
            }
            _ => true,
        }
    }

    fn flow(&mut self) -> Parsed {
        let start = self.start();
        let mut base = self.disjunction()?;
        loop {
            if self.eat("?") {
                let filter = self.disjunction()?;
                base = self.node(Kind::Filter { base, filter }, start)?;
            } else if self.eat("^") {
                let kernel = self.disjunction()?;
                base = self.node(Kind::Project { base, kernel }, start)?;
            } else if self.is("{") {
                let record = self.record()?;
                base = self.node(Kind::Select { base, record }, start)?;
                while self.eat(".") {
                    let arm = self.location()?;
                    base = self.node(Kind::Compose { base, arm }, start)?;
                }
            } else {
                return Ok(base);
            }
        }
    }

    // Operators.

    fn disjunction(&mut self) -> Parsed {
        let start = self.start();
        let mut left = self.conjunction()?;
        while self.eat("|") {
            let right = self.conjunction()?;
            left = self.node(Kind::Operator { symbol: "|", left, right }, start)?;
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Parsed {
        let start = self.start();
        let mut left = self.negation()?;
        while self.eat("&") {
            let right = self.negation()?;
            left = self.node(Kind::Operator { symbol: "&", left, right }, start)?;
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed {
        let start = self.start();
        if self.eat("!") {
            let arm = self.nested(Parser::negation)?;
            return self.node(Kind::Prefix { symbol: "!", arm }, start);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed {
        let start = self.start();
        let left = self.sum()?;
        let Some(symbol @ ("~" | "!~" | "<=" | "<" | ">=" | ">" | "==" | "=" | "!==" | "!=")) =
            self.symbol()
        else {
            return Ok(left);
        };
        self.position += 1;
        let right = self.sum()?;
        self.node(Kind::Operator { symbol, left, right }, start)
    }

    fn sum(&mut self) -> Parsed {
        let start = self.start();
        let mut left = self.product()?;
        while let Some(symbol @ ("+" | "-")) = self.symbol() {
            if self.at_direction() {
                break;
            }
            self.position += 1;
            let right = self.product()?;
            left = self.node(Kind::Operator { symbol, left, right }, start)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let start = self.start();
        let mut left = self.factor()?;
        while let Some(symbol @ ("*" | "/")) = self.symbol() {
            if self.at_command() {
                break;
            }
            self.position += 1;
            let right = self.factor()?;
            left = self.node(Kind::Operator { symbol, left, right }, start)?;
        }
        Ok(left)
    }

    fn factor(&mut self) -> Parsed {
        let start = self.start();
        if let Some(symbol @ ("+" | "-")) = self.symbol() {
            self.position += 1;
            let arm = self.nested(Parser::factor)?;
            return self.node(Kind::Prefix { symbol, arm }, start);
        }
        let origin = self.composition()?;
        if self.eat("->") {
            let target = self.nested(Parser::flow)?;
            return self.node(Kind::Link { origin, target }, start);
        }
        Ok(origin)
    }

    // Navigation.

    fn composition(&mut self) -> Parsed {
        let start = self.start();
        let mut base = self.location()?;
        while self.eat(".") {
            let arm = self.location()?;
            base = self.node(Kind::Compose { base, arm }, start)?;
        }
        Ok(base)
    }

    fn location(&mut self) -> Parsed {
        let start = self.start();
        let mut base = self.atom()?;
        if self.eat("@") {
            let target = self.atom()?;
            base = self.node(Kind::Attach { condition: base, target }, start)?;
        }
        if self.is("[") {
            let identity = self.identity()?;
            base = self.node(Kind::Locate { base, identity }, start)?;
        }
        Ok(base)
    }

    fn atom(&mut self) -> Parsed {
        if self.at_specifier() {
            return Err(self.unexpected());
        }
        let start = self.start();
        let kind = match self.peek().clone() {
            scan::Kind::String(text) => {
                self.position += 1;
                Kind::String { text }
            }
            scan::Kind::Integer => Kind::Integer { text: self.take_text() },
            scan::Kind::Decimal => Kind::Decimal { text: self.take_text() },
            scan::Kind::Float => Kind::Float { text: self.take_text() },
            scan::Kind::Name => {
                let name = self.take_text();
                if self.eat("(") {
                    Kind::Function { name, args: self.nested_items(")")? }
                } else {
                    Kind::Ident { name }
                }
            }
            scan::Kind::Symbol(symbol) => return self.symbol_atom(symbol, start),
            scan::Kind::Label | scan::Kind::End => return Err(self.unexpected()),
        };
        self.node(kind, start)
    }

    fn symbol_atom(&mut self, symbol: &'static str, start: usize) -> Parsed {
        match symbol {
            "{" => return self.record(),
            "[" => return self.identity(),
            "/" | "@" | "*" | "$" | "^" | "(" => self.position += 1,
            _ => return Err(self.unexpected()),
        }
        let kind = match symbol {
            "/" if self.starts_flow() && !self.at_specifier() => {
                Kind::Collect { arm: self.nested(Parser::flow_pipe)? }
            }
            "/" => Kind::Skip,
            "@" => Kind::Detach { arm: self.nested(Parser::atom)? },
            "*" => self.unpack()?,
            "$" => Kind::Reference { name: self.name()? },
            "^" => Kind::Lift,
            _ => self.group()?,
        };
        self.node(kind, start)
    }

    fn unpack(&mut self) -> Result<Kind, Error> {
        let is_wrapped = self.eat("(");
        let index = match self.peek() {
            scan::Kind::Integer => Some(self.take_text()),
            _ if is_wrapped => return Err(self.unexpected()),
            _ => None,
        };
        if is_wrapped {
            self.expect(")")?;
        }
        Ok(Kind::Unpack { index })
    }

    /// After `(`: a group `(x)` or a list `()`, `(x,)`, `(x, y)`.
    fn group(&mut self) -> Result<Kind, Error> {
        if self.eat(")") {
            return Ok(Kind::List { items: Vec::new() });
        }
        let first = self.nested(Parser::assignment)?;
        if self.eat(")") {
            return Ok(Kind::Group { arm: first });
        }
        self.expect(",")?;
        let mut items = vec![first];
        items.append(&mut self.nested_items(")")?);
        Ok(Kind::List { items })
    }

    fn record(&mut self) -> Parsed {
        let start = self.start();
        self.expect("{")?;
        let items = self.nested_items("}")?;
        self.node(Kind::Record { items }, start)
    }

    // Identities.

    fn identity(&mut self) -> Parsed {
        let start = self.start();
        let is_hard = self.is("[");
        self.position += 1;
        let mut labels = Vec::new();
        loop {
            labels.push(self.nested(Parser::label)?);
            if !self.eat(".") {
                break;
            }
        }
        self.expect(if is_hard { "]" } else { ")" })?;
        self.node(Kind::Identity { labels, is_hard }, start)
    }

    fn label(&mut self) -> Parsed {
        let start = self.start();
        let kind = match self.peek().clone() {
            scan::Kind::Label => Kind::Label { text: self.take_text() },
            scan::Kind::String(text) => {
                self.position += 1;
                Kind::String { text }
            }
            scan::Kind::Symbol("[" | "(") => return self.identity(),
            scan::Kind::Symbol("$") => {
                self.position += 1;
                if self.peek() == &scan::Kind::Integer {
                    Kind::Reference { name: self.take_text() }
                } else {
                    Kind::Reference { name: self.name()? }
                }
            }
            _ => return Err(self.unexpected()),
        };
        self.node(kind, start)
    }
}

#[cfg(test)]
mod tests;
