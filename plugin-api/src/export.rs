//! `export_plugin!`: what turns a crate into a plugin.

/// Exports the workers, commands and job executors of a `cdylib` crate. One call a crate, at its top level.
///
/// ```
/// # use rex_plugin_api::{Context, Payload, Result, Worker};
/// # #[derive(Default)] struct Import;
/// # impl Worker for Import {
/// #     fn process(&mut self, _: &Payload, _: &Context) -> Result<()> { Ok(()) }
/// # }
/// rex_plugin_api::export_plugin! {
///     workers: {
///         "csv_import" => Import,
///     }
/// }
/// ```
///
/// A plugin may add commands to `rex-host`, too, or nothing else: see [`Command`](crate::Command). After
/// them come the executors of jobs: see [`JobExecutor`](crate::JobExecutor).
///
/// A plugin that cannot do without a host operation that API 1.0 did not have declares it, so that
/// an older host refuses the plugin at once: `export_plugin! { workers: { … }, needs: [7] }`.
#[macro_export]
macro_rules! export_plugin {
    (
        $(workers: { $($name:literal => $worker:ty),+ $(,)? } $(,)?)?
        $(commands: { $($command:literal => $implementation:ty),+ $(,)? } $(,)?)?
        $(executors: { $($type:literal => $executor:ty),+ $(,)? } $(,)?)?
        $(needs: [$($op:expr),+ $(,)?] $(,)?)?
    ) => {
        #[allow(unsafe_code, non_upper_case_globals)]
        const _: () = {
            fn registry() -> $crate::Registry {
                $crate::Registry::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
                    $($(.worker::<$worker>($name))+)?
                    $($(.command::<$implementation>($command))+)?
                    $($(.executor::<$executor>($type))+)?
                    $($(.needs($op))+)?
            }

            extern "C" fn constructor() -> $crate::abi::Constructed {
                $crate::abi::construct(registry)
            }

            // The name is `rex_plugin_api::abi::SYMBOL`.
            #[unsafe(no_mangle)]
            pub static rex_plugin_v1: $crate::abi::Header = $crate::abi::header(constructor);
        };
    };
}
