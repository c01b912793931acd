//! The function library: signatures of operators and functions, and the SQL each becomes.
//!
//! A polymorphic function is a list of combinations: the families of its operands, the family of
//! the result, and an SQL template with `{0}`, `{1}`, … for the operands. Templates bring their own
//! parentheses. What has its own rules for names, scopes or types is bound in `bind::function`.

use crate::domain::Domain;

/// What a formula computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Eq,
    Ne,
    /// `==`: null-safe.
    Is,
    IsNot,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    /// The first argument among the others; without others, FALSE or NULL.
    In,
    NotIn,
    /// `in(x)`: FALSE also for NULL.
    Never,
    And,
    Or,
    Not,
    IsNull,
    /// Predicates and consequents in turn, then the alternative (if the count is odd).
    If,
    /// The value, then variants and consequents in turn, then the alternative (if the count is
    /// even).
    Switch,
    /// Text contains text, whatever the case.
    Contains,
    NotContains,
    HasPrefix,
    /// Text with NULL as the empty text.
    Concat,
    /// Text with NULL as NULL.
    StrictConcat,
    /// A label of an identity, quoted where it must be.
    QuoteLabel,
    /// Names and values in turn.
    JsonObject,
    Template(&'static str),
}

/// Aggregates over the rows of a plural flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Aggregate {
    Exists,
    Every,
    /// Rows for which the argument is TRUE.
    Count,
    Min,
    Max,
    /// 0 over nothing.
    SumInteger,
    SumDecimal,
    SumFloat,
    AvgInteger,
    Avg,
    /// The second argument is a constant delimiter.
    Join,
    Median,
}

/// Families of operands, as few as the library needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Boolean,
    Integer,
    Decimal,
    Float,
    Text,
    /// Text, or a literal that becomes text.
    AnyText,
    Enum,
    Date,
    Time,
    DateTime,
    Json,
}

impl Family {
    pub(crate) fn domain(self) -> Domain {
        match self {
            Family::Boolean => Domain::Boolean,
            Family::Integer => Domain::Integer,
            Family::Decimal => Domain::Decimal,
            Family::Float => Domain::Float,
            Family::Text | Family::AnyText | Family::Enum => Domain::Text,
            Family::Date => Domain::Date,
            Family::Time => Domain::Time,
            Family::DateTime => Domain::DateTime,
            Family::Json => Domain::Json,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::AnyText => "text",
            Family::Enum => "enum",
            other => match other.domain() {
                Domain::Boolean => "boolean",
                domain => domain.family(),
            },
        }
    }

    pub(crate) fn accepts(self, domain: &Domain) -> bool {
        match (self, domain) {
            (Family::AnyText, Domain::Untyped | Domain::Text) | (Family::Enum, Domain::Enum(_)) => {
                true
            }
            (Family::Enum, _) => false,
            (family, domain) => family.domain() == *domain,
        }
    }
}

/// One way to apply a polymorphic function.
pub(crate) struct Combination {
    pub(crate) operands: &'static [Family],
    pub(crate) result: Family,
    pub(crate) template: &'static str,
}

/// A function whose operands are all values of the scope, by position.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// One for each way to call it; those with fewer operands leave out the last ones.
    pub(crate) combinations: &'static [Combination],
}

use Family::{AnyText as T, Boolean as B, Date, DateTime, Decimal as D, Float as F, Integer as I};
use Family::{Json, Time};

const fn c(operands: &'static [Family], result: Family, template: &'static str) -> Combination {
    Combination { operands, result, template }
}

pub(crate) const ADD: &[Combination] = &[
    c(&[I, I], I, "({0} + {1})"),
    c(&[I, D], D, "({0} + {1})"),
    c(&[D, I], D, "({0} + {1})"),
    c(&[D, D], D, "({0} + {1})"),
    c(&[I, F], F, "({0} + {1})"),
    c(&[D, F], F, "({0} + {1})"),
    c(&[F, I], F, "({0} + {1})"),
    c(&[F, D], F, "({0} + {1})"),
    c(&[F, F], F, "({0} + {1})"),
    c(&[Date, I], Date, "({0} + ({1})::INT4)"),
    c(&[DateTime, I], DateTime, "({0} + {1} * INTERVAL '1' DAY)"),
    c(&[DateTime, D], DateTime, "({0} + {1} * INTERVAL '1' DAY)"),
    c(&[DateTime, F], DateTime, "({0} + {1} * INTERVAL '1' DAY)"),
    // Bound apart, since NULL is the empty text; here for the list of valid types.
    c(&[T, T], Family::Text, ""),
];

pub(crate) const SUBTRACT: &[Combination] = &[
    c(&[I, I], I, "({0} - {1})"),
    c(&[I, D], D, "({0} - {1})"),
    c(&[D, I], D, "({0} - {1})"),
    c(&[D, D], D, "({0} - {1})"),
    c(&[I, F], F, "({0} - {1})"),
    c(&[D, F], F, "({0} - {1})"),
    c(&[F, I], F, "({0} - {1})"),
    c(&[F, D], F, "({0} - {1})"),
    c(&[F, F], F, "({0} - {1})"),
    c(&[Date, I], Date, "({0} - ({1})::INT4)"),
    c(&[DateTime, I], DateTime, "({0} - {1} * INTERVAL '1' DAY)"),
    c(&[DateTime, D], DateTime, "({0} - {1} * INTERVAL '1' DAY)"),
    c(&[DateTime, F], DateTime, "({0} - {1} * INTERVAL '1' DAY)"),
    c(&[Date, Date], I, "({0} - {1})"),
];

pub(crate) const MULTIPLY: &[Combination] = &[
    c(&[I, I], I, "({0} * {1})"),
    c(&[I, D], D, "({0} * {1})"),
    c(&[D, I], D, "({0} * {1})"),
    c(&[D, D], D, "({0} * {1})"),
    c(&[I, F], F, "({0} * {1})"),
    c(&[D, F], F, "({0} * {1})"),
    c(&[F, I], F, "({0} * {1})"),
    c(&[F, D], F, "({0} * {1})"),
    c(&[F, F], F, "({0} * {1})"),
];

pub(crate) const DIVIDE: &[Combination] = &[
    c(&[I, I], D, "({0}::NUMERIC / {1}::NUMERIC)"),
    c(&[I, D], D, "({0} / {1})"),
    c(&[D, I], D, "({0} / {1})"),
    c(&[D, D], D, "({0} / {1})"),
    c(&[I, F], F, "({0} / {1})"),
    c(&[D, F], F, "({0} / {1})"),
    c(&[F, I], F, "({0} / {1})"),
    c(&[F, D], F, "({0} / {1})"),
    c(&[F, F], F, "({0} / {1})"),
];

pub(crate) const PLUS: &[Combination] =
    &[c(&[I], I, "(+ {0})"), c(&[D], D, "(+ {0})"), c(&[F], F, "(+ {0})")];

pub(crate) const MINUS: &[Combination] =
    &[c(&[I], I, "(- {0})"), c(&[D], D, "(- {0})"), c(&[F], F, "(- {0})")];

/// Operands of `min` and `max`.
pub(crate) const EXTREMES: &[Family] = &[I, D, F, Family::Text, Family::Enum, Date, Time, DateTime];

/// Operands of `sum` and `avg`.
pub(crate) const NUMBERS: &[Family] = &[I, D, F];

/// The start of a slice, counted from 0, and what lies between.
const SLICE: &str = "SUBSTRING({0} FROM 1 + COALESCE(CASE WHEN {1} < 0 THEN \
     GREATEST(CHARACTER_LENGTH({0}) + {1}, 0) ELSE {1} END, 0)::INT4 FOR GREATEST(\
     COALESCE(CASE WHEN {2} < 0 THEN CHARACTER_LENGTH({0}) + {2} ELSE {2} END, \
     CHARACTER_LENGTH({0})) - COALESCE(CASE WHEN {1} < 0 THEN \
     GREATEST(CHARACTER_LENGTH({0}) + {1}, 0) ELSE {1} END, 0), 0)::INT4)";

/// A character at a position, or a run of them to either side.
const AT: &str = "(CASE WHEN {1} IS NOT NULL THEN SUBSTRING({0} FROM 1 + GREATEST(CASE WHEN \
     {1} < 0 THEN CHARACTER_LENGTH({0}) + {1} ELSE {1} END + LEAST(COALESCE({2}, 1), 0), 0)::INT4 \
     FOR GREATEST(CASE WHEN {1} < 0 THEN CHARACTER_LENGTH({0}) + {1} ELSE {1} END \
     + GREATEST(COALESCE({2}, 1), 0) - GREATEST(CASE WHEN {1} < 0 THEN CHARACTER_LENGTH({0}) \
     + {1} ELSE {1} END + LEAST(COALESCE({2}, 1), 0), 0), 0)::INT4) END)";

const HEAD: &str = "LEFT({0}, COALESCE({1}, 1)::INT4)";
const TAIL: &str = "RIGHT({0}, COALESCE({1}, 1)::INT4)";

/// Nominally a float; what PostgreSQL returns is exact, and is passed on as such.
pub(crate) const SECOND: &str = "EXTRACT(SECOND FROM {0})";

/// A date from numbers that may be out of range: they carry over.
const MAKE_DATE: &str = "(DATE '2001-01-01' + ({0} - 2001) * INTERVAL '1' YEAR \
     + ({1} - 1) * INTERVAL '1' MONTH + ({2} - 1) * INTERVAL '1' DAY)";
const MAKE_DATE_ONLY: &str = "CAST(DATE '2001-01-01' + ({0} - 2001) * INTERVAL '1' YEAR \
     + ({1} - 1) * INTERVAL '1' MONTH + ({2} - 1) * INTERVAL '1' DAY AS DATE)";
const MAKE_HOUR: &str = "(DATE '2001-01-01' + ({0} - 2001) * INTERVAL '1' YEAR \
     + ({1} - 1) * INTERVAL '1' MONTH + ({2} - 1) * INTERVAL '1' DAY + {3} * INTERVAL '1' HOUR)";
const MAKE_MINUTE: &str = "(DATE '2001-01-01' + ({0} - 2001) * INTERVAL '1' YEAR \
     + ({1} - 1) * INTERVAL '1' MONTH + ({2} - 1) * INTERVAL '1' DAY + {3} * INTERVAL '1' HOUR \
     + {4} * INTERVAL '1' MINUTE)";
const MAKE_SECOND: &str = "(DATE '2001-01-01' + ({0} - 2001) * INTERVAL '1' YEAR \
     + ({1} - 1) * INTERVAL '1' MONTH + ({2} - 1) * INTERVAL '1' DAY + {3} * INTERVAL '1' HOUR \
     + {4} * INTERVAL '1' MINUTE + {5} * INTERVAL '1' SECOND)";

macro_rules! functions {
    ($($name:literal => [$(($($operand:expr),*) $result:expr, $template:expr;)*])*) => {
        &[$(Function {
            name: $name,
            combinations: &[$(c(&[$($operand),*], $result, $template)),*],
        }),*]
    };
}

/// The functions that need nothing but their operands.
pub(crate) const FUNCTIONS: &[Function] = functions! {
    "today" => [() Date, "CURRENT_DATE";]
    "now" => [() DateTime, "LOCALTIMESTAMP";]
    "year" => [
        (Date) I, "EXTRACT(YEAR FROM {0})::INT4";
        (DateTime) I, "EXTRACT(YEAR FROM {0})::INT4";
    ]
    "month" => [
        (Date) I, "EXTRACT(MONTH FROM {0})::INT4";
        (DateTime) I, "EXTRACT(MONTH FROM {0})::INT4";
    ]
    "day" => [
        (Date) I, "EXTRACT(DAY FROM {0})::INT4";
        (DateTime) I, "EXTRACT(DAY FROM {0})::INT4";
    ]
    "hour" => [
        (Time) I, "EXTRACT(HOUR FROM {0})::INT4";
        (DateTime) I, "EXTRACT(HOUR FROM {0})::INT4";
    ]
    "minute" => [
        (Time) I, "EXTRACT(MINUTE FROM {0})::INT4";
        (DateTime) I, "EXTRACT(MINUTE FROM {0})::INT4";
    ]
    "second" => [
        (Time) F, SECOND;
        (DateTime) F, SECOND;
    ]
    "round" => [
        (I) D, "ROUND({0}::NUMERIC)";
        (D) D, "ROUND({0})";
        (F) F, "ROUND({0})";
        (I, I) D, "ROUND({0}::NUMERIC, ({1})::INT4)";
        (D, I) D, "ROUND({0}, ({1})::INT4)";
    ]
    "trunc" => [
        (I) D, "TRUNC({0}::NUMERIC)";
        (D) D, "TRUNC({0})";
        (F) F, "TRUNC({0})";
        (I, I) D, "TRUNC({0}::NUMERIC, ({1})::INT4)";
        (D, I) D, "TRUNC({0}, ({1})::INT4)";
    ]
    "sqrt" => [
        (I) F, "SQRT({0}::FLOAT8)";
        (D) F, "SQRT({0}::FLOAT8)";
        (F) F, "SQRT({0})";
    ]
    "length" => [(T) I, "COALESCE(CHARACTER_LENGTH({0}), 0)";]
    "head" => [
        (T) Family::Text, "LEFT({0}, 1)";
        (T, I) Family::Text, HEAD;
    ]
    "tail" => [
        (T) Family::Text, "RIGHT({0}, 1)";
        (T, I) Family::Text, TAIL;
    ]
    "slice" => [
        (T) Family::Text, "{0}";
        (T, I) Family::Text, SLICE;
        (T, I, I) Family::Text, SLICE;
    ]
    "at" => [
        (T, I) Family::Text, AT;
        (T, I, I) Family::Text, AT;
    ]
    "replace" => [
        (T, T, T) Family::Text, "REPLACE({0}, COALESCE({1}, ''), COALESCE({2}, ''))";
    ]
    "upper" => [(T) Family::Text, "UPPER({0})";]
    "lower" => [(T) Family::Text, "LOWER({0})";]
    "trim" => [(T) Family::Text, "TRIM({0})";]
    "ltrim" => [(T) Family::Text, "LTRIM({0})";]
    "rtrim" => [(T) Family::Text, "RTRIM({0})";]
    "json_get" => [(Json, T) Family::Text, "({0} ->> {1})";]
    "json_get_json" => [(Json, T) Json, "({0} -> {1})";]
    "re_matches" => [(T, T) B, "({0} ~* {1})";]
    "re_replace" => [
        (T, T, T) Family::Text, "REGEXP_REPLACE({0}, {1}, {2}, 'ig')";
        (T, T, T, T) Family::Text, "REGEXP_REPLACE({0}, {1}, {2}, {3})";
    ]
    "ft_matches" => [
        (T, T) B, "(TO_TSVECTOR('english', {0}) @@ PLAINTO_TSQUERY('english', {1}))";
    ]
    "ft_query_matches" => [
        (T, T) B, "(TO_TSVECTOR('english', {0}) @@ TO_TSQUERY('english', {1}))";
    ]
    "ft_headline" => [
        (T, T) Family::Text, "TS_HEADLINE('english', {0}, PLAINTO_TSQUERY('english', {1}))";
    ]
    "ft_query_headline" => [
        (T, T) Family::Text, "TS_HEADLINE('english', {0}, TO_TSQUERY('english', {1}))";
    ]
    "ft_rank" => [
        (T, T) F,
        "TS_RANK(TO_TSVECTOR('english', {0}), PLAINTO_TSQUERY('english', {1}))::FLOAT8";
    ]
    "ft_query_rank" => [
        (T, T) F, "TS_RANK(TO_TSVECTOR('english', {0}), TO_TSQUERY('english', {1}))::FLOAT8";
    ]
    "abs" => [(I) I, "ABS({0})"; (D) D, "ABS({0})"; (F) F, "ABS({0})";]
    "sign" => [(I) D, "SIGN({0}::NUMERIC)"; (D) D, "SIGN({0})"; (F) F, "SIGN({0})";]
    "ceil" => [(I) D, "CEIL({0}::NUMERIC)"; (D) D, "CEIL({0})"; (F) F, "CEIL({0})";]
    "floor" => [(I) D, "FLOOR({0}::NUMERIC)"; (D) D, "FLOOR({0})"; (F) F, "FLOOR({0})";]
    "exp" => [(I) D, "EXP({0}::NUMERIC)"; (D) D, "EXP({0})"; (F) F, "EXP({0})";]
    "ln" => [(I) D, "LN({0}::NUMERIC)"; (D) D, "LN({0})"; (F) F, "LN({0})";]
    "log10" => [(I) D, "LOG({0}::NUMERIC)"; (D) D, "LOG({0})"; (F) F, "LOG({0})";]
    "div" => [
        (I, I) D, "DIV({0}::NUMERIC, {1}::NUMERIC)";
        (I, D) D, "DIV({0}::NUMERIC, {1})";
        (D, I) D, "DIV({0}, {1}::NUMERIC)";
        (D, D) D, "DIV({0}, {1})";
    ]
    "mod" => [
        (I, I) D, "MOD({0}::NUMERIC, {1}::NUMERIC)";
        (I, D) D, "MOD({0}::NUMERIC, {1})";
        (D, I) D, "MOD({0}, {1}::NUMERIC)";
        (D, D) D, "MOD({0}, {1})";
    ]
    "pow" => [
        (I, I) D, "POWER({0}::NUMERIC, {1}::NUMERIC)";
        (I, D) D, "POWER({0}::NUMERIC, {1})";
        (D, I) D, "POWER({0}, {1}::NUMERIC)";
        (D, D) D, "POWER({0}, {1})";
        (I, F) F, "POWER({0}::FLOAT8, {1})";
        (D, F) F, "POWER({0}::FLOAT8, {1})";
        (F, I) F, "POWER({0}, {1}::FLOAT8)";
        (F, D) F, "POWER({0}, {1}::FLOAT8)";
        (F, F) F, "POWER({0}, {1})";
    ]
    "log" => [
        (I, I) D, "LOG({1}::NUMERIC, {0}::NUMERIC)";
        (I, D) D, "LOG({1}, {0}::NUMERIC)";
        (D, I) D, "LOG({1}::NUMERIC, {0})";
        (D, D) D, "LOG({1}, {0})";
    ]
    "pi" => [() F, "PI()";]
    "acos" => [(I) F, "ACOS({0})"; (D) F, "ACOS({0})"; (F) F, "ACOS({0})";]
    "asin" => [(I) F, "ASIN({0})"; (D) F, "ASIN({0})"; (F) F, "ASIN({0})";]
    "atan" => [(I) F, "ATAN({0})"; (D) F, "ATAN({0})"; (F) F, "ATAN({0})";]
    "cos" => [(I) F, "COS({0})"; (D) F, "COS({0})"; (F) F, "COS({0})";]
    "cot" => [(I) F, "COT({0})"; (D) F, "COT({0})"; (F) F, "COT({0})";]
    "sin" => [(I) F, "SIN({0})"; (D) F, "SIN({0})"; (F) F, "SIN({0})";]
    "tan" => [(I) F, "TAN({0})"; (D) F, "TAN({0})"; (F) F, "TAN({0})";]
    "atan2" => [
        (I, I) F, "ATAN2({0}, {1})";
        (I, D) F, "ATAN2({0}, {1})";
        (D, I) F, "ATAN2({0}, {1})";
        (D, D) F, "ATAN2({0}, {1})";
        (I, F) F, "ATAN2({0}, {1})";
        (D, F) F, "ATAN2({0}, {1})";
        (F, I) F, "ATAN2({0}, {1})";
        (F, D) F, "ATAN2({0}, {1})";
        (F, F) F, "ATAN2({0}, {1})";
    ]
    "random" => [() F, "RANDOM()";]
    "width_bucket" => [
        (I, I, I, I) I, "WIDTH_BUCKET({0}::NUMERIC, {1}::NUMERIC, {2}::NUMERIC, ({3})::INT4)";
        (D, D, D, I) I, "WIDTH_BUCKET({0}, {1}, {2}, ({3})::INT4)";
        (F, F, F, I) I, "WIDTH_BUCKET({0}, {1}, {2}, ({3})::INT4)";
    ]
};

/// Functions that stock HTSQL has; the others come with RexDB and are suggested only there.
pub(crate) const STOCK: &[&str] = &[
    "today", "now", "year", "month", "day", "hour", "minute", "second", "round", "trunc", "sqrt",
    "length", "head", "tail", "slice", "at", "replace", "upper", "lower", "trim", "ltrim", "rtrim",
];

/// `date(y, m, d)`.
pub(crate) const DATE_FROM_PARTS: &[Combination] = &[c(&[I, I, I], Date, MAKE_DATE_ONLY)];

/// `datetime(…)` with more than one operand.
pub(crate) const DATETIME_FROM_PARTS: &[Combination] = &[
    c(&[Date, Time], DateTime, "({0} + {1})"),
    c(&[I, I, I], DateTime, MAKE_DATE),
    c(&[I, I, I, I], DateTime, MAKE_HOUR),
    c(&[I, I, I, I, I], DateTime, MAKE_MINUTE),
    c(&[I, I, I, I, I, I], DateTime, MAKE_SECOND),
    c(&[I, I, I, I, I, D], DateTime, MAKE_SECOND),
    c(&[I, I, I, I, I, F], DateTime, MAKE_SECOND),
];

/// Names bound by `bind::function`, for suggestions.
pub(crate) const SPECIAL: &[&str] = &[
    "null",
    "true",
    "false",
    "boolean",
    "bool",
    "text",
    "string",
    "str",
    "integer",
    "int",
    "decimal",
    "dec",
    "float",
    "date",
    "time",
    "datetime",
    "has_prefix",
    "is_null",
    "null_if",
    "if_null",
    "if",
    "switch",
    "recode",
    "accumulate",
    "count",
    "exists",
    "every",
    "min",
    "max",
    "sum",
    "avg",
    "as",
    "filter",
    "select",
    "sort",
    "limit",
    "define",
    "top",
    "given",
    "where",
    "distinct",
    "fork",
    "moniker",
    "root",
    "this",
    "home",
    "id",
    "guard",
];

/// The same, of RexDB.
pub(crate) const SPECIAL_REX: &[&str] = &["in", "join", "json", "median"];

/// Names that need no parentheses.
pub(crate) const BARE: &[&str] = &["null", "true", "false"];
