//! How operations and values are spelled in the printed stages.

use crate::domain::Domain;
use crate::func::{Aggregate, Op};
use crate::plan::SqlParam;
use crate::value::Value;

/// An operation on the printed operands.
pub(crate) fn operation(op: Op, args: &[String]) -> String {
    let infix = match op {
        Op::Eq => "=",
        Op::Ne => "!=",
        Op::Is => "==",
        Op::IsNot => "!==",
        Op::Less => "<",
        Op::LessEq => "<=",
        Op::Greater => ">",
        Op::GreaterEq => ">=",
        Op::And => "&",
        Op::Or => "|",
        Op::Contains => "~",
        Op::NotContains => "!~",
        Op::Concat | Op::StrictConcat => "+",
        _ => return call(op, args),
    };
    format!("({})", args.join(&format!(" {infix} ")))
}

fn call(op: Op, args: &[String]) -> String {
    let name = match op {
        Op::In => "in",
        Op::NotIn => "not_in",
        Op::Not => return format!("!{}", args.join(", ")),
        Op::IsNull => "is_null",
        Op::If => "if",
        Op::Switch => "switch",
        Op::HasPrefix => "has_prefix",
        Op::QuoteLabel => "label",
        Op::JsonObject => "json",
        Op::Template(template) => return filled(template, args),
        _ => return "false".to_string(),
    };
    format!("{name}({})", args.join(", "))
}

/// A template of SQL with its operands in place.
fn filled(template: &str, args: &[String]) -> String {
    let mut pieces = template.split('{');
    let mut out = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let (digit, rest) = piece.split_once('}').unwrap_or((piece, ""));
        let arg = digit.parse::<usize>().ok().and_then(|index| args.get(index));
        out.push_str(arg.map_or("null", String::as_str));
        out.push_str(rest);
    }
    out
}

/// The name of an aggregate.
pub(crate) fn aggregate(op: Aggregate) -> &'static str {
    match op {
        Aggregate::Exists => "exists",
        Aggregate::Every => "every",
        Aggregate::Count => "count",
        Aggregate::Min => "min",
        Aggregate::Max => "max",
        Aggregate::SumInteger | Aggregate::SumDecimal | Aggregate::SumFloat => "sum",
        Aggregate::AvgInteger | Aggregate::Avg => "avg",
        Aggregate::Join => "join",
        Aggregate::Median => "median",
    }
}

/// A parameter of a statement with its type: `$1: text = 'x'`.
pub(crate) fn param(index: usize, param: &SqlParam) -> String {
    let domain = match param.value {
        // Bare in a literal of its own, and quoted here as any text.
        Value::Json(_) => Domain::Text,
        _ => Domain::Untyped,
    };
    let value = match &param.value {
        Value::Json(text) => crate::literal::dump(&domain, &Value::Text(text.clone())),
        value => crate::literal::dump(&domain, value),
    };
    format!("${}: {} = {value}", index + 1, param.ty.name().to_lowercase())
}

/// `limit` and `offset` of a flow, where it has them.
pub(crate) fn cut(limit: Option<u64>, offset: Option<u64>) -> String {
    let limit = limit.map(|limit| format!(" limit {limit}")).unwrap_or_default();
    let offset = offset.filter(|offset| *offset > 0);
    limit + &offset.map(|offset| format!(" offset {offset}")).unwrap_or_default()
}
