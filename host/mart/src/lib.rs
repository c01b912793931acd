//! Marts: reporting databases that are made of an application's data by definition.
//!
//! | module | does |
//! |---|---|
//! | `settings` | what the application says of marts |
//! | `definition`, `parameter`, `name` | what is to be made: read, checked, named |
//! | `runlist` | which marts are to be made, for whom |
//! | `create` | makes one, stage by stage |
//! | `script`, `assessment`, `processor` | stages of it |
//! | `inventory`, `cluster`, `copy` | the record of a mart, and its database |
//! | `quota`, `purge` | which marts go, and how |
//! | `shell` | marts found and asked |
//! | `stop` | has one that is being made end |
//! | `moment`, `failure` | times and errors as they are told |

mod assessment;
mod cluster;
mod copy;
mod create;
mod definition;
mod failure;
mod inventory;
mod moment;
mod name;
mod parameter;
mod place;
mod processor;
mod purge;
mod quota;
mod runlist;
mod script;
mod settings;
mod shell;
mod stop;

pub use create::Creation;
pub use definition::{
    Assessment, Base, BaseKind, Calculation, Definition, Definitions, Identifiable, Language,
    Relationship, RelationshipKind, Script, Selector, Source,
};
pub use failure::Failure;
pub use inventory::{Inventory, Mart};
pub use moment::stamp as now;
pub use parameter::{DataType, Parameter};
pub use processor::Processor;
pub use purge::{purge, tidy};
pub use runlist::Entry;
pub use settings::Settings;
pub use shell::Shell;
