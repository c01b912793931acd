//! Labels: the names by which tables, columns and links are reached.
//!
//! Every arc of a node bids for names with weights. Heavier bids are settled first, shorter names
//! before longer ones; a name wanted by several arcs at once goes to nobody and becomes ambiguous
//! at lower weights too; an arc gets one name at most.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Catalog, Join, Naming, TableId, rex};
use crate::name::to_name;

/// A named arc of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Label {
    pub(crate) name: String,
    /// `None` for a plain name, the number of parameters for a parameterised alias.
    pub(crate) arity: Option<usize>,
    pub(crate) arc: Arc,
    /// The title, where metadata gives one.
    pub(crate) title: Option<String>,
    /// Whether `*` and default selectors show it.
    pub(crate) is_public: bool,
}

/// Where a label leads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Arc {
    Table(TableId),
    /// A column; with the link it stands for when it is alone in exactly one foreign key.
    Column(usize, Option<Join>),
    Link(Join),
    /// An expression over the table, with the names of its parameters (`$x` as `($x, true)`).
    Alias {
        body: String,
        params: Vec<(String, bool)>,
    },
    /// A name that several arcs wanted: their labels.
    Ambiguous(Vec<String>),
}

/// An arc with its bids (name, weight).
pub(super) struct Bidder {
    pub(super) arc: Arc,
    pub(super) arity: Option<usize>,
    pub(super) bids: Vec<(String, i32)>,
    pub(super) title: Option<String>,
    pub(super) is_public: bool,
}

impl Catalog {
    /// Whether a column has a label of its own.
    pub(super) fn has_column_label(&self, id: TableId, column: usize) -> bool {
        match self.naming {
            // Columns outbid everything else, and names of columns differ but for letter case.
            Naming::Stock => true,
            Naming::Rex => !rex::is_hidden(self, id, column),
        }
    }
}

pub(super) fn home_labels(catalog: &Catalog) -> Vec<Label> {
    let bidders = catalog.tables().map(|id| match catalog.naming() {
        Naming::Stock => {
            let (schema, table) = (catalog.schema(id), catalog.table(id));
            let mut bids = vec![(table.name.clone(), schema.priority)];
            if !schema.name.is_empty() {
                bids.push((format!("{} {}", schema.name, table.name), -1));
            }
            Bidder { arc: Arc::Table(id), arity: None, bids, title: None, is_public: false }
        }
        Naming::Rex => rex::table_bidder(catalog, id),
    });
    auction(bidders.collect())
}

pub(super) fn table_labels(catalog: &Catalog, id: TableId) -> Vec<Label> {
    match catalog.naming() {
        Naming::Stock => auction(stock_bidders(catalog, id)),
        Naming::Rex => rex::order(catalog, auction(rex::bidders(catalog, id))),
    }
}

fn stock_bidders(catalog: &Catalog, id: TableId) -> Vec<Bidder> {
    let table = catalog.table(id);
    let direct = catalog.direct_joins(id);
    let columns = table.columns.iter().enumerate().map(|(index, column)| Bidder {
        arc: Arc::Column(index, column_link(catalog, &direct, index)),
        arity: None,
        bids: vec![(column.name.clone(), 10)],
        title: None,
        is_public: true,
    });
    let links = direct.iter().chain(catalog.reverse_joins(id)).map(|join| Bidder {
        arc: Arc::Link(*join),
        arity: None,
        bids: stock_link_bids(catalog, *join),
        title: None,
        is_public: false,
    });
    columns.chain(links).collect()
}

/// The link of a column that is alone in exactly one foreign key.
pub(super) fn column_link(catalog: &Catalog, direct: &[Join], column: usize) -> Option<Join> {
    let mut links = direct.iter().filter(|join| catalog.key(**join).columns == [column]);
    let first = links.next()?;
    if links.next().is_some() { None } else { Some(*first) }
}

fn stock_link_bids(catalog: &Catalog, join: Join) -> Vec<(String, i32)> {
    let fk = catalog.key(join);
    let target = &catalog.table(catalog.target(join)).name;
    let column = |table: TableId, columns: &[usize]| {
        columns.last().map_or("", |c| catalog.column(table, *c).name.as_str()).to_string()
    };
    let origin_name = column(join.owner, &fk.columns);
    let referred = if join.is_direct { catalog.target(join) } else { catalog.origin(join) };
    let target_name = column(referred, &fk.target_columns);
    let prefix = origin_name.strip_suffix(&target_name).map(|prefix| {
        let prefix = prefix.trim_end_matches([' ', '_', '-']);
        if prefix.is_empty() { target.clone() } else { prefix.to_string() }
    });
    let mut bids = Vec::new();
    match &prefix {
        Some(prefix) if join.is_direct => bids.push((prefix.clone(), 5)),
        _ => {}
    }
    bids.push((target.clone(), if catalog.is_of_primary_key(join) { 4 } else { 3 }));
    if !join.is_direct {
        if let Some(prefix) = prefix {
            bids.push((format!("{target} via {prefix}"), 2));
        }
        bids.push((format!("{target} via {origin_name}"), 1));
    }
    bids
}

pub(super) fn auction(bidders: Vec<Bidder>) -> Vec<Label> {
    // Lots by weight (heaviest first), then by length and spelling of the name, then by arity.
    type Lot = (i32, usize, String, Option<usize>);
    let mut lots: BTreeMap<Lot, Vec<usize>> = BTreeMap::new();
    for (index, bidder) in bidders.iter().enumerate() {
        let mut seen = HashSet::new();
        for (name, weight) in &bidder.bids {
            let name = to_name(name);
            if seen.insert((name.clone(), *weight)) {
                let lot = (-weight, name.chars().count(), name, bidder.arity);
                lots.entry(lot).or_default().push(index);
            }
        }
    }
    let mut taken: HashSet<(String, Option<usize>)> = HashSet::new();
    let mut rejected: BTreeMap<(String, Option<usize>), Vec<usize>> = BTreeMap::new();
    let mut won: HashMap<usize, String> = HashMap::new();
    for ((_, _, name, arity), contenders) in lots {
        let signature = (name.clone(), arity);
        if taken.contains(&signature) {
            continue;
        }
        match contenders.as_slice() {
            [one] if !rejected.contains_key(&signature) && !won.contains_key(one) => {
                taken.insert(signature);
                won.insert(*one, name);
            }
            _ => rejected.entry(signature).or_default().extend(contenders),
        }
    }
    let mut labels = Vec::with_capacity(bidders.len());
    let mut ambiguous = Vec::new();
    for ((name, arity), mut contenders) in rejected {
        if taken.contains(&(name.clone(), arity)) {
            continue;
        }
        // Choices: links along foreign keys first, of these the last declared one first.
        contenders.sort_unstable();
        contenders.dedup();
        let is_reverse = |index: &usize| match &bidders[*index].arc {
            Arc::Link(join) => !join.is_direct,
            _ => false,
        };
        contenders.sort_by_key(|index| (is_reverse(index), std::cmp::Reverse(*index)));
        let choices = contenders.iter().filter_map(|index| won.get(index).cloned()).collect();
        ambiguous.push(Label {
            name,
            arity,
            arc: Arc::Ambiguous(choices),
            title: None,
            is_public: false,
        });
    }
    for (index, bidder) in bidders.into_iter().enumerate() {
        if let Some(name) = won.remove(&index) {
            let Bidder { arc, arity, title, is_public, .. } = bidder;
            labels.push(Label { name, arity, arc, title, is_public });
        }
    }
    labels.append(&mut ambiguous);
    labels
}
