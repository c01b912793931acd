//! Fetches: from syntax through all stages to statements.

use crate::catalog::Catalog;
use crate::error::{Error, Mark};
use crate::plan::{FetchPlan, Segment};
use crate::syn::Syn;
use crate::value::Params;
use crate::{Lens, bind, deep, rel, space, sql};

/// Compiles a query that is not a command.
///
/// # Errors
/// Those of binding and lowering.
pub(crate) fn compile(
    syn: &Syn,
    mark: Mark,
    catalog: &Catalog,
    params: &Params,
) -> Result<FetchPlan, Error> {
    deep::run(syn, || compile_here(syn, mark, catalog, params))
}

fn compile_here(
    syn: &Syn,
    mark: Mark,
    catalog: &Catalog,
    params: &Params,
) -> Result<FetchPlan, Error> {
    let (bound, profile) = bind::bind(syn, catalog, params)?;
    let mut product = space::lower(&bound, catalog)?;
    let fetch = rel::plan(&mut product);
    let root = fetch.root.map(|select| sql::statement(&select, catalog));
    let segments = fetch
        .segments
        .into_iter()
        .map(|segment| Segment {
            parent: segment.parent,
            statement: sql::statement(&segment.select, catalog),
            key: segment.key,
            parent_key: segment.parent_key,
            item: segment.item,
        })
        .collect();
    Ok(FetchPlan { profile, root, shape: fetch.shape, segments, mark })
}

/// Prints what a stage makes of a query that is not a command.
///
/// # Errors
/// Those of binding and lowering, as far as the stage needs them.
pub(crate) fn explain(
    syn: &Syn,
    lens: Lens,
    catalog: &Catalog,
    params: &Params,
) -> Result<String, Error> {
    deep::run(syn, || explain_here(syn, lens, catalog, params))
}

fn explain_here(
    syn: &Syn,
    lens: Lens,
    catalog: &Catalog,
    params: &Params,
) -> Result<String, Error> {
    let (bound, _) = bind::bind(syn, catalog, params)?;
    if lens == Lens::Bound {
        return Ok(bind::outline(&bound, catalog));
    }
    let mut product = space::lower(&bound, catalog)?;
    if lens == Lens::Space {
        return Ok(product.outline());
    }
    let fetch = rel::plan(&mut product);
    let selects = fetch.root.iter().chain(fetch.segments.iter().map(|s| &s.select));
    let shown: Vec<String> = selects
        .map(|select| {
            if lens == Lens::Rel {
                rel::outline(select, catalog)
            } else {
                sql::statement(select, catalog).to_string()
            }
        })
        .collect();
    Ok(shown.join("\n"))
}
