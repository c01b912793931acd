//! New plans for a host that runs: what is on disk by now, as far as a running host can take it over.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rex_transport::Features;

use super::failure::Failure;
use super::plan::{Reader, only_at_start};
use crate::dispatch::{Fresh, Purpose};
use crate::plugins::{Catalog, PluginFile, Refusal, new_refusals, shown};
use crate::settings::Settings;

/// Makes new plans for a host that runs.
pub(super) struct Rereader {
    pub(super) reader: Arc<Reader>,
    /// What is in force.
    pub(super) catalog: Arc<Mutex<Catalog>>,
    pub(super) store: StoreSettings,
    /// The database of the table of jobs, once this host has worked it.
    pub(super) jobs: Arc<Mutex<Option<String>>>,
    pub(super) features: Features,
    pub(super) label: String,
}

/// What counts when the store is opened: names and values.
type StoreSettings = [(&'static str, String); 5];

pub(super) fn store_settings(settings: &Settings) -> StoreSettings {
    let seconds = |time: Duration| time.as_secs_f64().to_string();
    [
        ("asynctask_transport", settings.transport.clone().unwrap_or_default()),
        ("asynctask_rescue_grace", seconds(settings.rescue_grace)),
        ("asynctask_owner_timeout", seconds(settings.owner_timeout)),
        ("asynctask_lock_timeout", seconds(settings.lock_timeout)),
        ("asynctask_schema_additions", settings.schema_additions.to_string()),
    ]
}

impl Rereader {
    pub(super) fn replan(&self, purpose: Purpose) -> Result<Fresh, String> {
        let Rereader { reader, catalog, store, jobs, features, label } = self;
        let previous = lock(catalog).clone();
        let worked = lock(jobs).clone();
        let fresh = reader
            .finder
            .discover(&reader.place.plugins, Some(&previous))
            .map_err(|error| error.to_string())?;
        let new: Vec<String> = new_refusals(&previous, &fresh)
            .iter()
            .map(|refusal| {
                format!("plugin {} is refused: {}", shown(&refusal.path), advice(refusal))
            })
            .collect();
        if !new.is_empty() {
            return Err(new.join("\n"));
        }
        let (plan, settings) = reader.plan(&fresh).map_err(|failure| failure.text)?;
        let new = store_settings(&settings);
        if let Some(((name, _), _)) = store.iter().zip(&new).find(|(old, new)| old != new) {
            return Err(only_at_start(name));
        }
        if plan.has_jobs() && worked.is_some() && settings.database != worked {
            return Err(only_at_start("db"));
        }
        plan.refuse_beyond(features, label)?;
        let mut begin = None;
        if plan.has_jobs() && worked.is_none() {
            begin = reader.jobs(&plan, &settings, purpose).map_err(Failure::in_one)?;
        }
        let worked = worked.or(settings.database.filter(|_| plan.has_jobs()));
        let warnings = fresh
            .refusals
            .iter()
            .map(|refusal| format!("still refused: {}", shown(&refusal.path)))
            .collect();
        let this = Rereader {
            reader: Arc::clone(reader),
            catalog: Arc::clone(catalog),
            store: store.clone(),
            jobs: Arc::clone(jobs),
            features: *features,
            label: label.clone(),
        };
        let adopt = Box::new(move |used| {
            let known = |new: &PluginFile| previous.plugins.iter().any(|old| old.hash == new.hash);
            fresh.plugins.iter().filter(|new| !known(new)).for_each(warn_of);
            *lock(&this.catalog) = fresh;
            *lock(&this.jobs) = worked;
            this.tidy_copies(used);
        });
        Ok(Fresh { plan, jobs: begin, warnings, adopt })
    }

    /// Notes what is in force, and removes the copies that neither it nor a dead letter names, beside
    /// the host's loop: it has to ask the store. A process that still runs an old copy has it mapped.
    pub(super) fn tidy_copies(&self, used: Vec<String>) {
        let (reader, catalog) = (Arc::clone(&self.reader), Arc::clone(&self.catalog));
        if let Err(error) = reader.finder.note_in_service(&lock(&catalog)) {
            tracing::debug!("cannot note which plugins are in service: {error}");
        }
        let started = std::thread::Builder::new().name("tidy".to_owned()).spawn(move || {
            remove_unused_copies(&reader, &catalog, used);
        });
        if let Err(error) = started {
            tracing::debug!("cannot remove old copies of plugins: {error}");
        }
    }
}

fn remove_unused_copies(reader: &Reader, catalog: &Mutex<Catalog>, used: Vec<String>) {
    let in_letters = reader
        .place
        .settings()
        .and_then(|settings| reader.place.open(&settings, None))
        .and_then(|mut transport| Ok(transport.dead_details("plugin_hash")?));
    // Without the store's word nothing is removed.
    let (Ok(in_letters), Some(copies)) = (in_letters, reader.finder.copies()) else { return };
    let in_force: Vec<String> = lock(catalog).plugins.iter().map(|p| p.hash.clone()).collect();
    let keep: HashSet<String> = in_letters.into_iter().chain(in_force).chain(used).collect();
    if let Err(error) = copies.remove_unused(&keep) {
        tracing::debug!("cannot remove old copies of plugins: {error}");
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn advice(refusal: &Refusal) -> String {
    match &refusal.reason.hint {
        Some(hint) => format!("{} ({hint})", refusal.reason),
        None => refusal.reason.to_string(),
    }
}

/// Says what whoever serves the plugin ought to know.
pub(super) fn warn_of(plugin: &PluginFile) {
    if let Some(warning) = plugin.warning() {
        tracing::warn!("plugin {} {warning}", shown(&plugin.path));
    }
}
