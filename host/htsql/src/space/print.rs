//! Prints spaces and codes (the `space` lens): each space is named once, on a line of its own, and
//! what follows speaks of it by that name.

use std::collections::HashMap;

use super::{Arena, Code, CodeId, Family, Output, Product, SpaceId, Step};
use crate::show;

struct Printer<'p, 'a> {
    product: &'p Product<'a>,
    names: HashMap<SpaceId, String>,
    /// The spaces, each after those it is made of.
    spaces: String,
}

impl<'a> Printer<'_, 'a> {
    fn arena(&self) -> &Arena<'a> {
        &self.product.arena
    }

    /// The name of a space.
    fn space(&mut self, id: SpaceId) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let name = match self.arena().space(id).base {
            None => "root".to_string(),
            Some(base) => {
                let text = self.step(id, base);
                let name = format!("s{}", self.names.len());
                self.spaces.push_str(&format!("{name} = {text}\n"));
                name
            }
        };
        self.names.insert(id, name.clone());
        name
    }

    fn step(&mut self, id: SpaceId, base: SpaceId) -> String {
        let base = self.space(base);
        let space = self.arena().space(id);
        let (is_contracting, is_expanding) = (space.is_contracting, space.is_expanding);
        match space.step.clone() {
            Step::Root => "root".to_string(),
            Step::Scalar => format!("{base}.home"),
            Step::Table(table) => format!("{base} * {}", self.arena().catalog.table(table).name),
            Step::Fiber(join) => {
                let catalog = self.arena().catalog;
                let target = &catalog.table(catalog.target(join)).name;
                let many = if is_contracting { "" } else { ", many" };
                let optional = if is_expanding { "" } else { ", perhaps none" };
                format!("{base}.{target} by {}{many}{optional}", catalog.key(join).name)
            }
            Step::Quotient { seed, kernels } => {
                let seed = self.space(seed);
                format!("{base}.({seed} ^ {{{}}})", self.codes(&kernels))
            }
            Step::Complement { seed, .. } => format!("{base}.^ in {}", self.space(seed)),
            Step::Moniker { seed } => format!("{base}.moniker({})", self.space(seed)),
            Step::Fork { kernels, .. } => format!("{base}.fork({})", self.codes(&kernels)),
            Step::Attach { seed, images, filter } => {
                let seed = self.space(seed);
                let mut all: Vec<String> = Vec::new();
                for (origin, target) in images {
                    all.push(format!("{} = {}", self.code(origin), self.code(target)));
                }
                all.extend(filter.map(|filter| self.code(filter)));
                format!("{base}.({seed} where {})", all.join(" & "))
            }
            Step::Clip { seed, limit, offset } => {
                let cut = show::cut(limit, Some(offset));
                format!("{base}.top({}{cut})", self.space(seed))
            }
            Step::Locate { seed, filter } => {
                let seed = self.space(seed);
                format!("{base}.{seed}[{}]", self.code(filter))
            }
            Step::Filter(filter) => format!("{base} ? {}", self.code(filter)),
            Step::Order { order, limit, offset } => {
                let mut keys = Vec::with_capacity(order.len());
                for (code, is_descending) in order {
                    keys.push(format!(
                        "{}{}",
                        self.code(code),
                        if is_descending { "-" } else { "+" }
                    ));
                }
                let sorted = if keys.is_empty() { "" } else { " sorted by " };
                format!("{base}{sorted}{}{}", keys.join(", "), show::cut(limit, offset))
            }
        }
    }

    fn codes(&mut self, codes: &[CodeId]) -> String {
        codes.iter().map(|code| self.code(*code)).collect::<Vec<_>>().join(", ")
    }

    fn code(&mut self, id: CodeId) -> String {
        match self.arena().code(id).clone() {
            Code::Literal { value, domain, .. } => crate::literal::dump(&domain, &value),
            Code::Cast { to, arg, .. } => format!("{}({})", to.family(), self.code(arg)),
            Code::Formula { op, args } => {
                let args: Vec<String> = args.iter().map(|arg| self.code(*arg)).collect();
                show::operation(op, &args)
            }
            Code::Column { space, column } => {
                let name = match self.arena().space(space).family {
                    Family::Table(table) => self.arena().catalog.column(table, column).name.clone(),
                    _ => "?".to_string(),
                };
                format!("{}.{name}", self.space(space))
            }
            Code::Kernel { space, index } => format!("{}.*{}", self.space(space), index + 1),
            Code::Present { space } => format!("has({})", self.space(space)),
            Code::Aggregate { op, space, plural, arg, .. } => {
                let (space, plural) = (self.space(space), self.space(plural));
                format!("{}({} over {plural} for {space})", show::aggregate(op), self.code(arg))
            }
            Code::Cover { space, code } => {
                let space = self.space(space);
                format!("{space}:({})", self.code(code))
            }
        }
    }

    fn output(&mut self, output: &Output, level: usize, out: &mut String) {
        let pad = "  ".repeat(level);
        let line = match output {
            Output::Void => "void".to_string(),
            Output::Scalar { code, domain } => format!("{domain} = {}", self.code(*code)),
            Output::Record { space, .. } => format!("record on {}", self.space(*space)),
            Output::Identity { .. } => "identity".to_string(),
            Output::List { segment } => {
                format!("list over {}", self.space(self.product.segments[*segment].space))
            }
        };
        out.push_str(&format!("{pad}{line}\n"));
        match output {
            Output::Record { fields, .. } => {
                fields.iter().for_each(|field| self.output(field, level + 1, out));
            }
            Output::Identity { labels } => {
                labels.iter().for_each(|label| self.output(label, level + 1, out));
            }
            Output::List { segment } => {
                self.output(&self.product.segments[*segment].item, level + 1, out);
            }
            Output::Void | Output::Scalar { .. } => {}
        }
    }
}

impl Product<'_> {
    /// The spaces, then the output as an outline, each segment under the field that holds it.
    pub(crate) fn outline(&self) -> String {
        let (names, spaces) = (HashMap::new(), String::new());
        let mut printer = Printer { product: self, names, spaces };
        let mut out = String::new();
        printer.output(&self.output, 0, &mut out);
        printer.spaces + &out
    }
}
