//! Prints spaces and codes in an algebraic form (the `space` lens).

use super::{Arena, Code, CodeId, SpaceId, Step};

impl Arena<'_> {
    /// `(root.school ? code = 'art').department`, with columns by name.
    pub(crate) fn show_space(&self, id: SpaceId) -> String {
        let space = self.space(id);
        let Some(base) = space.base else {
            return "I".to_string();
        };
        let base = self.show_space(base);
        let codes = |codes: &[CodeId]| {
            codes.iter().map(|c| self.show_code(*c)).collect::<Vec<_>>().join(", ")
        };
        match &space.step {
            Step::Root => "I".to_string(),
            Step::Scalar => format!("{base}.I"),
            Step::Table(table) => format!("{base}*{}", self.catalog.table(*table).name),
            Step::Fiber(join) => {
                let arrow = if join.is_direct { "." } else { "<" };
                let target = &self.catalog.table(self.catalog.target(*join)).name;
                format!("{base}{arrow}{target}[{}]", self.catalog.key(*join).name)
            }
            Step::Quotient { seed, kernels } => {
                format!("{base}.({} ^ {})", self.show_space(*seed), codes(kernels))
            }
            Step::Complement { .. } => format!("{base}.^"),
            Step::Moniker { seed } => format!("{base}.moniker({})", self.show_space(*seed)),
            Step::Fork { kernels, .. } => format!("{base}.fork({})", codes(kernels)),
            Step::Attach { seed, images, filter } => {
                let images: Vec<String> = images
                    .iter()
                    .map(|(a, b)| format!("{} = {}", self.show_code(*a), self.show_code(*b)))
                    .chain(filter.map(|f| self.show_code(f)))
                    .collect();
                format!("{base}.({} : {})", self.show_space(*seed), images.join(", "))
            }
            Step::Clip { seed, limit, offset } => {
                let limit = limit.unwrap_or(1);
                format!("{base}.top({}, {limit}, {offset})", self.show_space(*seed))
            }
            Step::Locate { seed, filter } => {
                format!("{base}.{}[{}]", self.show_space(*seed), self.show_code(*filter))
            }
            Step::Filter(filter) => format!("({base} ? {})", self.show_code(*filter)),
            Step::Order { order, limit, offset } => {
                let keys: Vec<String> = order
                    .iter()
                    .map(|(c, d)| format!("{}{}", self.show_code(*c), if *d { "-" } else { "+" }))
                    .collect();
                let cut = match (limit, offset) {
                    (None, None) => String::new(),
                    (limit, offset) => {
                        let limit = limit.map_or("all".to_string(), |n| n.to_string());
                        format!("; {limit}, {}", offset.unwrap_or(0))
                    }
                };
                format!("{base}[{}{cut}]", keys.join(", "))
            }
        }
    }

    pub(crate) fn show_code(&self, id: CodeId) -> String {
        match self.code(id) {
            Code::Literal { value, domain, .. } => crate::literal::dump(domain, value),
            Code::Cast { to, arg, .. } => format!("{}({})", to.family(), self.show_code(*arg)),
            Code::Formula { op, args } => {
                let args: Vec<String> = args.iter().map(|a| self.show_code(*a)).collect();
                match op {
                    crate::func::Op::Template(template) => {
                        format!("`{template}`({})", args.join(", "))
                    }
                    op => format!("{op:?}({})", args.join(", ")),
                }
            }
            Code::Column { space, column } => {
                let name = match self.space(*space).family {
                    super::Family::Table(table) => &self.catalog.column(table, *column).name,
                    _ => "?",
                };
                format!("{}.{name}", self.show_space(*space))
            }
            Code::Kernel { space, index } => format!("{}.*{}", self.show_space(*space), index + 1),
            Code::Present { space } => format!("exists {}", self.show_space(*space)),
            Code::Aggregate { op, space, plural, arg, .. } => format!(
                "{op:?}({} | {} by {})",
                self.show_code(*arg),
                self.show_space(*plural),
                self.show_space(*space)
            ),
            Code::Cover { space, code } => {
                format!("{}::{}", self.show_space(*space), self.show_code(*code))
            }
        }
    }
}

impl super::Product<'_> {
    /// The output as an outline, each segment under the field that holds it.
    pub(crate) fn outline(&self) -> String {
        let mut out = String::new();
        self.write(&self.output, 0, &mut out);
        out
    }

    fn write(&self, output: &super::Output, level: usize, out: &mut String) {
        use super::Output;
        let pad = "  ".repeat(level);
        let line = match output {
            Output::Void => "void".to_string(),
            Output::Scalar { code, domain } => {
                format!("{domain} = {}", self.arena.show_code(*code))
            }
            Output::Record { space, .. } => format!("record on {}", self.arena.show_space(*space)),
            Output::Identity { .. } => "identity".to_string(),
            Output::List { segment } => {
                format!("list over {}", self.arena.show_space(self.segments[*segment].space))
            }
        };
        out.push_str(&format!("{pad}{line}\n"));
        match output {
            Output::Record { fields, .. } => {
                fields.iter().for_each(|field| self.write(field, level + 1, out));
            }
            Output::Identity { labels } => {
                labels.iter().for_each(|label| self.write(label, level + 1, out));
            }
            Output::List { segment } => {
                self.write(&self.segments[*segment].item, level + 1, out);
            }
            Output::Void | Output::Scalar { .. } => {}
        }
    }
}
