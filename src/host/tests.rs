use super::*;

fn refused(text: &str) -> String {
    let host = Host::new(Config::default());
    host.check(&Script::from_text("mine.rhai", text)).err().expect("must be refused").to_string()
}

#[test]
fn shipped_scripts_and_modules_are_good() {
    let host = Host::new(Config::default());
    for name in Host::shipped_scripts() {
        let script = Script::load(std::path::Path::new(&format!("scripts/{name}.rhai"))).unwrap();
        let checked = host.check(&script).unwrap_or_else(|e| panic!("{e}"));
        assert!(!checked.about.is_empty() && !checked.options.is_empty(), "{name} says nothing of itself");
    }
}

#[test]
fn an_unknown_function_is_shown_with_its_line_and_what_was_meant() {
    let text = refused("let x = 1;\nlet who = ldap_gett(\"a@b.test\");\n");
    assert!(text.contains("mine.rhai:2:11: unknown function `ldap_gett`"), "{text}");
    assert!(text.contains("2 | let who = ldap_gett"), "{text}");
    assert!(text.contains("did you mean `ldap_get`?"), "{text}");
}

#[test]
fn a_wrong_number_of_arguments_is_found() {
    let text = refused("sleep(1, 2);");
    assert!(text.contains("`sleep` takes 1 arguments, not 2"), "{text}");
}

#[test]
fn an_unknown_option_of_a_function_is_found() {
    let text = refused("fn f(a, b) { rsync(a, b, #{ bwlimt: 5 }) }");
    assert!(text.contains("`rsync` has no option `bwlimt`") && text.contains("did you mean `bwlimit`?"), "{text}");
}

#[test]
fn a_missing_module_is_found() {
    let text = refused("import \"acount\" as account;\n");
    assert!(text.contains("mine.rhai:1:1: no module `acount`") && text.contains("did you mean `account`?"), "{text}");
}

#[test]
fn an_unknown_function_of_a_module_is_found() {
    let text = refused("import \"account\" as account;\naccount::fnd(\"a\");\n");
    assert!(text.contains("unknown function `account::fnd`") && text.contains("did you mean `find`?"), "{text}");
}

#[test]
fn a_syntax_error_is_found() {
    let text = refused("let x = ;\n");
    assert!(text.contains("mine.rhai:1:"), "{text}");
}

#[test]
fn an_unknown_variable_is_found() {
    let text = refused("print(whom);");
    assert!(text.contains("whom"), "{text}");
}

#[test]
fn a_function_that_another_module_could_take_the_place_of_is_found() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one.rhai"), "fn run_it() { help(1) }\nprivate fn help(x) { x }\n").unwrap();
    std::fs::write(folder.path().join("two.rhai"), "fn run_it() { 2 }\nprivate fn help(x) { x + 1 }\n").unwrap();
    let host = Host::new(Config::default()).stdlib(Some(folder.path().to_owned()));
    let text = "import \"one\" as one;\nimport \"two\" as two;\none::run_it();\ntwo::run_it();\n";
    let error = host.check(&Script::from_text("mine.rhai", text)).err().expect("must be refused").to_string();
    assert!(error.contains("`help` with 1 arguments is a function of") && error.contains("one.rhai:1:15"), "{error}");
}

#[test]
fn the_examples_are_good() {
    let host = Host::new(Config::default());
    for entry in std::fs::read_dir("scripts/examples").unwrap() {
        let script = Script::load(&entry.unwrap().path()).unwrap();
        host.check(&script).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn runs_that_begin_at_one_moment_have_names_of_their_own() {
    let begin = || std::thread::spawn(|| (0..500).map(|_| super::run_id()).collect::<Vec<_>>());
    let threads: Vec<_> = (0..4).map(|_| begin()).collect();
    let names: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let different: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(different.len(), names.len());
}
