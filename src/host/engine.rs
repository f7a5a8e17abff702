//! The Rhai engine as zlm sets it up: its packages, limits and modules.

use std::sync::Arc;

use rhai::packages::{
    BasicArrayPackage, BasicMapPackage, BasicMathPackage, CorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, OptimizationLevel};

use super::resolver::Library;
use crate::api;
use crate::report::Event;
use crate::run::Run;

/// What an embedder adds to every engine.
pub(super) type Extension = Arc<dyn Fn(&mut Engine) + Send + Sync>;

/// An engine that can compile and check scripts but not run an operation, since it belongs to no run.
pub(super) fn compiler(library: Library, extensions: &[Extension]) -> Engine {
    let mut engine = Engine::new_raw();
    // The stock clock is left out: a script that asks it takes another path when it is run again.
    CorePackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    // Code that is only known while it runs could not be checked before anything happens.
    engine.disable_symbol("eval");
    // Full optimization would call natives while compiling.
    engine.set_optimization_level(OptimizationLevel::Simple);
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    // Rhai's defaults differ between debug and release builds.
    engine.set_max_call_levels(64);
    engine.set_max_expr_depths(64, 64);
    // What is inside is counted with it: the outcomes of a list of accounts are an array of maps with texts.
    engine.set_max_string_size(128 * 1024 * 1024);
    engine.set_max_array_size(200_000);
    engine.set_max_map_size(2_000_000);
    engine.set_max_modules(100);
    engine.set_module_resolver(library);
    api::register(&mut engine);
    for extend in extensions {
        extend(&mut engine);
    }
    engine
}

/// Makes `engine` the engine of one run: operations go through the run's gate, `print` becomes an event, and
/// a stop request ends the script.
pub(super) fn attach(engine: &mut Engine, run: &Arc<Run>) {
    engine.set_default_tag(Dynamic::from(run.clone()));
    let said = run.clone();
    engine.on_print(move |text| said.gate.emit(&Event::Said { text: text.to_owned() }));
    engine.on_debug(|text, source, position| log::debug!("{}:{position}: {text}", source.unwrap_or("script")));
    let cancel = run.gate.cancel().clone();
    engine.on_progress(move |_| cancel.check().err().map(|e| Dynamic::from(api::Fault::new(e))));
}
