//! Runs plans: each kind of plan to a feed.

use std::pin::Pin;
use std::sync::Arc;

use rex_htsql::command::Command;
use rex_htsql::domain::Domain;
use rex_htsql::error::{Kind, Mark};
use rex_htsql::pending::{Pending, delayed};
use rex_htsql::plan::{FetchPlan, Plan};
use rex_htsql::profile::Profile;
use rex_htsql::{Error, Param, Params, Stage, Value};

use crate::etl;
use crate::fetch::{Access, Fetch, unshared};
use crate::json_param::{Members, from_json, read};
use crate::product::Feed;
use crate::space::{DatabaseId, MAIN, Space};
use crate::turns::Turns;

/// Where and how a plan runs.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) space: &'a Space,
    pub(crate) database: DatabaseId,
    /// The query writes somewhere, so that everything runs in transactions.
    pub(crate) writes: bool,
    /// A database on which other statements run while the feed is read.
    pub(crate) busy: Option<DatabaseId>,
    /// Parts are compiled with the catalog's own catalog.
    pub(crate) meta: bool,
}

/// Whether a plan may write, now or in parts that are compiled later.
pub(crate) fn writes(plan: &Plan) -> bool {
    match plan {
        Plan::Skip | Plan::Fetch(_) | Plan::Sql { .. } | Plan::Describe { .. } => false,
        Plan::Format { feed, .. } | Plan::Pivot { feed, .. } => writes(feed),
        Plan::Gateway { plan, .. } | Plan::Meta { plan, .. } => writes(plan),
        _ => true,
    }
}

impl<'a> Run<'a> {
    /// Runs a plan up to where its items can be read.
    pub(crate) fn plan<'p>(
        self,
        plan: &'p Plan,
        params: &'p Params,
    ) -> Pin<Box<dyn Future<Output = Result<Feed<'a>, Error>> + 'p>>
    where
        'a: 'p,
    {
        Box::pin(
            async move { self.unmarked(plan, params).await.map_err(|error| marked(error, plan)) },
        )
    }

    /// Compiles a command with the parameters known by now.
    pub(crate) async fn compile(self, command: &Command, params: &Params) -> Result<Plan, Error> {
        let space = self.space;
        space
            .compile(self.database, |catalog, env| {
                let catalog = if self.meta { catalog.meta() } else { catalog };
                command.compile(catalog, env, params)
            })
            .await
    }

    /// Compiles and runs a command.
    async fn command(self, command: &Command, params: &Params) -> Result<Feed<'a>, Error> {
        let plan = self.compile(command, params).await?;
        self.plan(&plan, params).await
    }

    async fn unmarked(self, plan: &Plan, params: &Params) -> Result<Feed<'a>, Error> {
        match plan {
            Plan::Skip => Ok(void()),
            Plan::Fetch(fetch) => self.fetch(fetch.clone()).await,
            Plan::Format { feed, .. } => self.plan(feed, params).await,
            Plan::Sql { feed, .. } => {
                let text = match writes(feed) {
                    false => sql_text(feed),
                    true => {
                        let mut shown = Vec::new();
                        self.statements(feed, params, &Pending::default(), &mut shown).await?;
                        shown.join("\n").trim_end().to_string()
                    }
                };
                Ok(Feed::ready(Profile::bare(Domain::Text), Value::Text(text)))
            }
            Plan::Describe { feed, .. } => crate::describe::describe(feed),
            Plan::Pivot { feed, on, by, .. } => {
                let feed = self.plan(feed, params).await?;
                crate::describe::pivot(feed, *on, *by).await
            }
            Plan::Gateway { name, plan, .. } => {
                let unknown = || Error::quoting("Found unknown gateway", name);
                let database = self.space.gateway(name).ok_or_else(unknown)?;
                Run { database, ..self }.plan(plan, params).await
            }
            Plan::Meta { plan, .. } => Run { meta: true, ..self }.plan(plan, params).await,
            Plan::Truncate { schema, table, .. } => {
                self.space.begin(self.database).await?;
                let sql = etl::truncate_sql(schema, table);
                self.space.connection(self.database).await?.run(&sql).await?;
                Ok(void())
            }
            Plan::Etl(plan) => {
                self.space.begin(self.database).await?;
                etl::run(self, plan, params).await
            }
            Plan::Do { steps, .. } => {
                let mut params = params.clone();
                let mut last = void();
                for (at, step) in steps.iter().enumerate() {
                    let mut feed = self.command(&step.command, &params).await?;
                    if at + 1 == steps.len() {
                        last = feed;
                    } else if let Some(reference) = &step.reference {
                        let (profile, value) = feed.collect().await?;
                        params.set(reference, Param { domain: profile.domain, value });
                    } else {
                        feed.drain().await?;
                    }
                }
                Ok(last)
            }
            Plan::If { arms, otherwise, .. } => {
                for (test, then) in arms {
                    if self.test(test, params).await? {
                        return self.command(then, params).await;
                    }
                }
                match otherwise {
                    Some(otherwise) => self.command(otherwise, params).await,
                    None => Ok(Feed::ready(Profile::bare(Domain::Untyped), Value::Null)),
                }
            }
            Plan::For { reference, items, body, mark } => {
                let turns = Turns::start(self, reference, items, body, params).await?;
                Ok(Feed::turns(turns.profile(), turns, mark))
            }
            Plan::With { record, body, .. } => match self.unpack(record, params).await? {
                Some(params) => self.command(body, &params).await,
                None => Ok(Feed::ready(Profile::bare(Domain::Untyped), Value::Null)),
            },
        }
    }

    /// The statements of a plan, in the order in which they are sent. In place of a command that
    /// waits for a value there is a comment.
    pub(crate) fn statements<'p>(
        self,
        plan: &'p Plan,
        params: &'p Params,
        pending: &'p Pending,
        out: &'p mut Vec<String>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'p>>
    where
        'a: 'p,
    {
        Box::pin(async move {
            let mut parts: Vec<(&Command, Pending)> = Vec::new();
            match plan {
                Plan::Skip | Plan::Sql { .. } | Plan::Describe { .. } => {}
                Plan::Fetch(fetch) => {
                    let segments = fetch.segments.iter().map(|segment| &segment.statement);
                    out.extend(fetch.root.iter().chain(segments).map(ToString::to_string));
                }
                Plan::Format { feed, .. } | Plan::Pivot { feed, .. } => {
                    self.statements(feed, params, pending, out).await?;
                }
                Plan::Meta { plan, .. } => {
                    Run { meta: true, ..self }.statements(plan, params, pending, out).await?;
                }
                Plan::Gateway { name, plan, .. } => {
                    let database = self.space.gateway(name).unwrap_or(self.database);
                    Run { database, ..self }.statements(plan, params, pending, out).await?;
                }
                Plan::Truncate { schema, table, .. } => {
                    out.push(format!("{}\n", etl::truncate_sql(schema, table)));
                }
                Plan::Etl(plan) => {
                    self.statements(&plan.feed, params, pending, out).await?;
                    if let Some(target) = &plan.target {
                        let catalog = self.space.catalog(self.database).await?;
                        let connection = self.space.connection(self.database).await?;
                        let own = etl::statements(plan.kind, target, &catalog, &connection).await?;
                        out.extend(own.into_iter().map(|sql| sql + "\n"));
                    } else {
                        let Mark { text, start, end } = &plan.mark;
                        let name = text.get(*start..*end).unwrap_or_default();
                        out.push(format!("-- not before it runs: what `{name}` sends\n"));
                    }
                }
                Plan::Do { steps, .. } => {
                    let mut pending = pending.clone();
                    for step in steps {
                        parts.push((&step.command, pending.clone()));
                        if let Some(reference) = &step.reference {
                            pending = pending.and(reference);
                        }
                    }
                }
                Plan::If { arms, otherwise, .. } => {
                    let all = arms.iter().flat_map(|(test, then)| [test, then]).chain(otherwise);
                    parts.extend(all.map(|part| (part, pending.clone())));
                }
                Plan::For { reference, items, body, .. } => {
                    parts.extend([(items, pending.clone()), (body, pending.and(reference))]);
                }
                Plan::With { record, body, .. } => {
                    let fields = self.compile(record, &pending.settled(params)).await.ok();
                    let fields = fields.and_then(|plan| plan.profile());
                    let fields = pending.and_fields(fields.as_ref());
                    parts.extend([(record, pending.clone()), (body, fields)]);
                }
            }
            for (part, pending) in parts {
                match self.compile(part, &pending.settled(params)).await {
                    Ok(plan) => self.statements(&plan, params, &pending, out).await?,
                    Err(_) if pending.delays(part.syn()) => out.push(delayed(part.syn())),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    async fn fetch(self, plan: Arc<FetchPlan>) -> Result<Feed<'a>, Error> {
        if plan.root.is_none()
            && plan.segments.is_empty()
            && plan.shape == rex_htsql::plan::Shape::Null
        {
            return Ok(Feed::ready(plan.profile.clone(), Value::Null));
        }
        let plan = unshared(plan);
        let connection = self.space.connection(self.database).await?;
        // A transaction that lines share may write to a gateway later on.
        if self.writes || (self.database != MAIN && self.space.in_transaction(MAIN)) {
            self.space.begin(self.database).await?;
        }
        let access = match self.space.in_transaction(self.database) {
            true if self.busy == Some(self.database) => Access::Interleaved,
            true => Access::InTransaction,
            false => Access::Alone,
        };
        let profile = plan.profile.clone();
        let mark = plan.mark.clone();
        if Fetch::needs_transaction(&plan, access) {
            self.space.note_reading(self.database);
        }
        let fetch = Fetch::start(&connection, plan, access).await?;
        Ok(Feed::fetch(profile, self.database, fetch, &mark))
    }

    async fn test(self, command: &Command, params: &Params) -> Result<bool, Error> {
        let plan = self.compile(command, params).await?;
        let (profile, value) = self.plan(&plan, params).await?.collect().await?;
        if profile.domain != Domain::Boolean {
            let message = format!("Expected boolean value; got {}", profile.domain.family());
            return Err(marked(Error::new(message), &plan));
        }
        Ok(value == Value::Boolean(true))
    }

    /// The parameters with those of a record's fields added; `None` where there is no record.
    async fn unpack(self, record: &Command, params: &Params) -> Result<Option<Params>, Error> {
        let plan = self.compile(record, params).await?;
        let (profile, value) = self.plan(&plan, params).await?.collect().await?;
        let mut params = params.clone();
        match (&profile.domain, value) {
            (Domain::Record(fields), Value::Record(values)) => {
                for (field, value) in fields.iter().zip(values) {
                    if let Some(tag) = &field.tag {
                        params.set(tag, Param { domain: field.domain.clone(), value });
                    }
                }
            }
            (Domain::Record(_) | Domain::Json | Domain::Untyped, Value::Null) => return Ok(None),
            (Domain::Json, Value::Json(document)) => {
                let unfit = |_reason| marked(Error::new("Expected a record value"), &plan);
                for (name, member) in read::<Members>(&document).map_err(unfit)? {
                    params.set(&name, from_json(member.get()).map_err(unfit)?);
                }
            }
            _ => return Err(marked(Error::new("Expected a record value"), &plan)),
        }
        Ok(Some(params))
    }
}

fn void<'a>() -> Feed<'a> {
    Feed::ready(Profile::bare(Domain::Void), Value::Null)
}

pub(crate) fn marked(error: Error, plan: &Plan) -> Error {
    match plan.mark() {
        Some(mark) => error.at(Stage::Processing, mark),
        None => error,
    }
}

/// The statements of a plan, an empty line between.
pub(crate) fn sql_text(plan: &Plan) -> String {
    match plan {
        Plan::Fetch(fetch) => {
            let segments = fetch.segments.iter().map(|segment| segment.statement.sql.as_str());
            let all: Vec<&str> =
                fetch.root.iter().map(|root| root.sql.as_str()).chain(segments).collect();
            all.join("\n\n")
        }
        Plan::Gateway { plan, .. } | Plan::Meta { plan, .. } => sql_text(plan),
        Plan::Format { feed, .. } | Plan::Pivot { feed, .. } => sql_text(feed),
        _ => String::new(),
    }
}

/// An error for what the compiler never gives.
pub(crate) fn internal(message: &str) -> Error {
    Error::of(Kind::Internal, message)
}
