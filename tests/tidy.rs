//! The structure of the repository: who imports whom, what may be named where, what lies at the top.
//!
//! The sources are read as words with comments and strings taken out. Every rule gives its breaches as lines of
//! `file:line: what is wrong; what to do`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which modules of the library each of them may import, besides itself.
///
/// The root (`lib.rs`) and the binary's `cli` may import everything; `main.rs` only `cli`. Nothing imports `cli`: it is
/// in another crate.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("units", &[]),
    // The one generator of random numbers, for weights, orders and inputs alike.
    ("random", &[]),
    // The one way to say what a name that is not known was meant to be. It knows names only.
    ("nearest", &[]),
    ("tensor", &["units"]),
    ("conv", &["units", "tensor"]),
    // The one door for YAML. It knows no type of ours, so that every format may use it.
    ("yaml", &["nearest"]),
    ("reference", &["units", "tensor", "conv"]),
    ("ir", &["units", "random", "tensor", "conv"]),
    // Pictures become tensors and tensors become files; neither knows of models.
    ("image", &["units", "tensor"]),
    ("npz", &["units", "tensor"]),
    ("pass", &["units", "tensor", "conv", "ir"]),
    ("onnx", &["units", "tensor", "conv", "ir"]),
    ("weights", &["units", "nearest", "tensor", "conv", "ir"]),
    ("backbone", &["units", "nearest", "tensor", "conv", "ir", "yaml"]),
    ("torch", &["units", "tensor", "conv", "ir", "backbone"]),
    // It makes inputs of noise for models that are run without anyone's data.
    ("runtime", &["units", "random", "tensor"]),
    ("census", &["units", "tensor", "conv", "ir", "onnx", "runtime", "yaml"]),
    ("profile", &["units", "random", "nearest", "tensor", "conv", "ir", "reference", "onnx", "runtime", "yaml"]),
    ("select", &["units", "nearest", "tensor", "conv", "profile", "census"]),
    // It draws networks at random.
    (
        "search",
        &[
            "units", "random", "tensor", "conv", "ir", "profile", "census", "select", "backbone", "pass", "onnx",
            "runtime",
        ],
    ),
    // It runs models that `onnx::precision` has rewritten, and times them as `profile` times whole networks.
    ("precision", &["units", "tensor", "onnx", "runtime", "profile"]),
    // Outputs are compared with stored ones, which may be in NumPy archives; that convolutions ran in the precision that a
    // file states is found out as `convert` finds it out.
    ("verify", &["units", "tensor", "conv", "ir", "npz", "reference", "onnx", "runtime", "precision"]),
    ("report", &["units", "tensor", "conv", "ir", "profile", "census", "select", "backbone", "search", "verify"]),
];

/// What modules named `tests` may import besides: the module they are in, and the modules.
const TESTS_MAY_IMPORT: &[(&str, &[&str])] = &[
    // What the generator promises has to hold for what is made of its graphs.
    ("backbone", &["pass"]),
];

/// Crates that are named in one place: the crate, and the paths under `src` where it may be.
const DOORS: &[(&str, &[&str])] = &[
    ("prost", &["onnx/"]),
    ("protobuf", &["onnx/"]),
    ("onnx_protobuf", &["onnx/"]),
    ("wgpu", &["profile/shader"]),
    ("naga", &["profile/shader"]),
    ("ort", &["runtime/"]),
    ("libloading", &["runtime/"]),
    ("safetensors", &["weights/"]),
    ("anyhow", &["cli/"]),
    ("plotters", &["report/"]),
    ("ab_glyph", &["report/"]),
];

/// Crates that are named in one file, wherever that is.
const IN_ONE_FILE: &[&str] = &["serde_yaml"];

/// What may lie at the top besides dotfiles.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "benches",
    "fixtures",
    "schema",
    "shaders",
    "src",
    "tests",
];

/// Taken from others as they are, or made from that: their words are not ours.
const FOREIGN: &[&str] = &["schema/onnx.proto", "src/onnx/proto.rs"];

/// What no file may contain, and what to do instead. Written in pieces, since this file is read too.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it, or file an issue"),
    (concat!("FIX", "ME"), "do it, or file an issue"),
    (concat!("dbg", "!"), "take it out"),
    (concat!("/ro", "ot/."), "a path of one machine; make it relative"),
    (concat!("/wo", "rk/"), "a path of one machine; make it relative"),
];

/// The most bytes of a file in the repository.
const MAX_FILE: u64 = 1_000_000;

#[test]
fn imports_follow_the_table() {
    let mut breaches = Vec::new();
    for source in sources() {
        let tokens = tokens(&source.text);
        for import in imports(&source.module, &tokens) {
            if let Some(why) = breach(&import.from, &import.target) {
                breaches.push(format!("{}:{}: {why}", source.path, import.line));
            }
        }
    }
    assert_none(&breaches);
}

#[test]
fn the_table_names_every_module_and_goes_one_way() {
    let mut placed: Vec<&str> = Vec::new();
    for (module, may_import) in MAY_IMPORT {
        let unknown: Vec<_> = may_import.iter().filter(|name| !placed.contains(name)).collect();
        assert!(unknown.is_empty(), "`{module}` imports {unknown:?}, which stand after it or nowhere");
        placed.push(module);
    }
    let missing: Vec<String> = sources()
        .into_iter()
        .filter_map(|source| source.module.first().cloned())
        .filter(|module| !["main", "cli"].contains(&module.as_str()) && !placed.contains(&module.as_str()))
        .collect();
    assert_none(&missing);
}

#[test]
fn crates_stay_behind_their_doors() {
    let mut breaches = Vec::new();
    let mut users: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in sources() {
        let tokens = tokens(&source.text);
        let below = source.path.strip_prefix("src/").unwrap_or(&source.path);
        for (name, places) in DOORS {
            if places.iter().any(|place| below.starts_with(place)) {
                continue;
            }
            for line in lines_naming(name, &tokens) {
                breaches.push(format!("{}:{line}: `{name}` belongs in {places:?}", source.path));
            }
        }
        for name in IN_ONE_FILE {
            if !lines_naming(name, &tokens).is_empty() {
                users.entry(name).or_default().push(source.path.clone());
            }
        }
    }
    for (name, files) in users.into_iter().filter(|(_, files)| files.len() > 1) {
        breaches.push(format!("`{name}` is named in {files:?}; one of them is enough"));
    }
    assert_none(&breaches);
}

#[test]
fn files_contain_nothing_forbidden() {
    let mut breaches = Vec::new();
    for path in tracked().into_iter().filter(|path| !FOREIGN.contains(&path.as_str())) {
        // What is not text has no words.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            if contains(line, env!("CARGO_MANIFEST_DIR")) {
                breaches.push(format!("{path}:{}: the path of this checkout; make it relative", index + 1));
            }
            for (word, remedy) in FORBIDDEN.iter().filter(|(word, _)| contains(line, word)) {
                breaches.push(format!("{path}:{}: `{word}`; {remedy}", index + 1));
            }
        }
    }
    assert_none(&breaches);
}

/// Whether a line contains a word; one that begins with `/` only where a path begins, not inside an address.
fn contains(line: &str, word: &str) -> bool {
    let begins = |at: usize| !line[..at].ends_with(|before: char| before.is_alphanumeric() || ".-_~".contains(before));
    line.match_indices(word).any(|(at, _)| !word.starts_with('/') || begins(at))
}

#[test]
fn the_top_is_as_the_architecture_page_has_it() {
    let top = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = tracked().iter().map(top).collect();
    names.dedup();
    names.retain(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()));
    assert_none(&names);
}

#[test]
fn nothing_is_left_over() {
    let left_over = |path: &String| path.ends_with(".pending-snap") || path.ends_with(".snap.new");
    assert_none(&tracked().into_iter().filter(left_over).collect::<Vec<_>>());
}

#[test]
fn no_file_is_large() {
    let size = |path: &String| fs::metadata(root().join(path)).map_or(0, |metadata| metadata.len());
    let large =
        |path: String| Some(size(&path)).filter(|size| *size > MAX_FILE).map(|size| format!("{path}: {size} bytes"));
    assert_none(&tracked().into_iter().filter_map(large).collect::<Vec<_>>());
}

/// A Rust file under `src`.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    /// The module it is, from the crate's root; empty for `lib.rs`, `main` for `main.rs`.
    module: Vec<String>,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files_under(Path::new("src"), &mut paths);
    let is_rust = |path: &String| path.ends_with(".rs");
    let sources: Vec<Source> = paths
        .into_iter()
        .filter(is_rust)
        .map(|path| Source { module: module_of(&path), text: fs::read_to_string(root().join(&path)).unwrap(), path })
        .collect();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources are not where they are looked for");
    sources
}

/// All files of the repository, new ones included, ignored ones not. Outside a git checkout: all but `target` and what
/// is hidden.
fn tracked() -> Vec<String> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|output| output.status.success() && !output.stdout.is_empty());
    let mut paths = Vec::new();
    match git {
        Some(output) => {
            let listed = String::from_utf8(output.stdout).unwrap();
            paths.extend(listed.split_terminator('\0').map(String::from));
        }
        None => files_under(Path::new(""), &mut paths),
    }
    paths.sort();
    paths
}

/// The files in a folder and its folders, from the repository's root, with `/`.
fn files_under(folder: &Path, paths: &mut Vec<String>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| folder.join(entry.unwrap().file_name())).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || path == Path::new("target") {
            continue;
        }
        if root().join(&path).is_dir() {
            files_under(&path, paths);
        } else {
            paths.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
}

fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|name| *name != "lib").map(String::from).collect()
}

#[track_caller]
fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} in all:\n{}", breaches.len(), breaches.join("\n"));
}

/// Why a module may not import this one; `None` if it may.
fn breach(module: &[String], target: &str) -> Option<String> {
    let known = target == "cli" || MAY_IMPORT.iter().any(|(name, _)| *name == target);
    if !known {
        return Some(format!("`{target}` is no module in the table of `tests/tidy.rs`; name modules one by one"));
    }
    let from = module.first()?;
    if from == target || from == "cli" || (from == "main" && target == "cli") {
        return None;
    }
    let row = |table: &[(&str, &'static [&'static str])]| {
        table.iter().find(|(name, _)| name == from).map_or(&[][..], |(_, allowed)| allowed)
    };
    let is_test = module.iter().any(|name| name == "tests");
    let allowed = [row(MAY_IMPORT), if is_test { row(TESTS_MAY_IMPORT) } else { &[] }].concat();
    let message = || format!("`{from}` may not import `{target}`, only {allowed:?}; the table is in `tests/tidy.rs`");
    (!allowed.contains(&target)).then(message)
}

/// A word, a `::`, or any other character that is not blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    PathSeparator,
    Other(char),
}

/// The tokens of a Rust source with their lines. Comments are left out, and so are strings, characters and lifetimes.
fn tokens(source: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        let (length, token) = if let Some(length) = skipped(rest) {
            (length, None)
        } else if c.is_alphanumeric() || c == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (length, Some(Token::Word(&rest[..length])))
        } else if rest.starts_with("::") {
            (2, Some(Token::PathSeparator))
        } else {
            (c.len_utf8(), (!c.is_whitespace()).then_some(Token::Other(c)))
        };
        tokens.extend(token.map(|token| (line, token)));
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// The length of what begins here and holds no tokens: a comment, a string, a character, a lifetime, the `r#` of a name.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        return Some(1 + quoted_character(inside));
    }
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default();
        after.starts_with('"') || (prefix.ends_with('r') && after.trim_start_matches('#').starts_with('"'))
    });
    if let Some(prefix) = prefix {
        let after = &rest[prefix.len()..];
        return Some(prefix.len() + if prefix.ends_with('r') { raw_string(after) } else { string(after) });
    }
    if let Some(inside) = rest.strip_prefix("b'") {
        return Some(2 + quoted_character(inside));
    }
    rest.starts_with("r#").then_some(2)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// What follows a `'`: a character and its closing quote, or the name of a lifetime.
fn quoted_character(inside: &str) -> usize {
    let mut chars = inside.char_indices();
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let after = escaped + c.len_utf8();
            inside[after..].find('\'').map_or(inside.len(), |end| after + end + 1)
        }
        (Some(_), Some((closing, '\''))) => closing + 1,
        _ => inside.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inside.len()),
    }
}

fn string(rest: &str) -> usize {
    let mut escaped = true; // So is the opening quote, in effect.
    for (at, c) in rest.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> usize {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let closing = format!("\"{}", "#".repeat(hashes));
    rest[hashes + 1..].find(&closing).map_or(rest.len(), |end| hashes + 1 + end + closing.len())
}

/// A path to a module of the library (or of `cli`) or to something in it.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    /// The module it is in.
    from: Vec<String>,
    /// The top module it ends in.
    target: String,
    /// What it ends in.
    name: String,
}

/// Every path that leads from the crate's root or upwards, in `use` or elsewhere.
fn imports(file: &[String], tokens: &[(usize, Token<'_>)]) -> Vec<Import> {
    let mut imports = Vec::new();
    let mut depth = 0_usize;
    // Inline modules, each with the depth of braces outside it.
    let mut inline: Vec<(&str, usize)> = Vec::new();
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at) {
        let mut next = at + 1;
        match token {
            Token::Other('{') => {
                if let [.., (_, Token::Word("mod")), (_, Token::Word(name))] = tokens[..at] {
                    inline.push((name, depth));
                }
                depth += 1;
            }
            Token::Other('}') => {
                depth = depth.saturating_sub(1);
                inline.retain(|(_, outside)| *outside < depth);
            }
            Token::Word("crate" | "super" | "self" | "bbc") if leads_a_path(tokens, at) => {
                let mut paths = Vec::new();
                next = use_tree(tokens, at, &[], &mut paths);
                let module: Vec<&str> =
                    file.iter().map(String::as_str).chain(inline.iter().map(|(name, _)| *name)).collect();
                let import = |path: Vec<&str>| Import {
                    line: *line,
                    from: module.iter().map(ToString::to_string).collect(),
                    target: top_of(&module, &path),
                    name: path.iter().rfind(|word| **word != "self").copied().unwrap_or_default().to_owned(),
                };
                imports.extend(paths.into_iter().map(import));
            }
            _ => {}
        }
        at = next;
    }
    imports
}

/// Whether the word here is the first of a path with more than one, or gets another name.
fn leads_a_path(tokens: &[(usize, Token<'_>)], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| tokens[before].1);
    let after = tokens.get(at + 1).map(|(_, token)| *token);
    before != Some(Token::PathSeparator) && matches!(after, Some(Token::PathSeparator | Token::Word("as")))
}

/// Reads one path, or a tree of them in braces, and adds each to `paths` with `prefix` in front; gives the place after it.
fn use_tree<'a>(tokens: &[(usize, Token<'a>)], at: usize, prefix: &[&'a str], paths: &mut Vec<Vec<&'a str>>) -> usize {
    let token = |at: usize| tokens.get(at).map(|(_, token)| *token);
    match token(at) {
        Some(Token::Word(word)) => {
            let path = [prefix, &[word]].concat();
            if token(at + 1) == Some(Token::PathSeparator) {
                return use_tree(tokens, at + 2, &path, paths);
            }
            paths.push(path);
            if token(at + 1) == Some(Token::Word("as")) { at + 3 } else { at + 1 }
        }
        Some(Token::Other('{')) => {
            let mut at = at + 1;
            while token(at).is_some_and(|token| token != Token::Other('}')) {
                at = if token(at) == Some(Token::Other(',')) { at + 1 } else { use_tree(tokens, at, prefix, paths) };
            }
            at + 1
        }
        Some(Token::Other('*')) => {
            paths.push([prefix, &["*"]].concat());
            at + 1
        }
        // `crate::path::<T>`, `$crate::{..}` in a macro, and the like: the path so far is what counts.
        _ => {
            paths.push(prefix.to_vec());
            at + 1
        }
    }
}

/// The top module that a path ends in, seen from `module`; `crate` if it is the root itself.
fn top_of(module: &[&str], path: &[&str]) -> String {
    let mut absolute = if matches!(path[0], "crate" | "bbc") { Vec::new() } else { module.to_vec() };
    for word in path {
        match *word {
            "crate" | "bbc" | "self" => {}
            "super" => {
                absolute.pop();
            }
            word => absolute.push(word),
        }
    }
    absolute.first().copied().unwrap_or("crate").to_owned()
}

/// Lines on which a crate is named: at the head of a path, or alone in `use` or `extern crate`.
///
/// Where a module of ours has that name in this file, the crate is meant by `::name` only.
fn lines_naming(name: &str, tokens: &[(usize, Token<'_>)]) -> Vec<usize> {
    let declared = tokens.windows(2).any(|pair| pair[0].1 == Token::Word("mod") && pair[1].1 == Token::Word(name));
    let is_ours = declared || imports(&[], tokens).iter().any(|import| import.name == name);
    let named = |at: usize| {
        let before = at.checked_sub(1).map(|before| tokens[before].1);
        let after = tokens.get(at + 1).map(|(_, token)| *token);
        match before {
            Some(Token::PathSeparator) => !is_below_a_word(tokens, at),
            Some(Token::Word("crate")) => true,
            Some(Token::Word("use")) => !is_ours,
            _ => after == Some(Token::PathSeparator) && !is_ours,
        }
    };
    let lines = tokens.iter().enumerate().filter(|(at, (_, token))| *token == Token::Word(name) && named(*at));
    lines.map(|(_, (line, _))| *line).collect()
}

/// Whether `word::` stands before the word here; a leading `::` alone does not count.
fn is_below_a_word(tokens: &[(usize, Token<'_>)], at: usize) -> bool {
    matches!(tokens[..at], [.., (_, Token::Word(before)), (_, Token::PathSeparator)] if before != "use")
}

#[test]
fn tokens_leave_out_what_is_not_code() {
    for (name, source, expected) in [
        ("comments", "a // b\nc /* d /* e */ f */ g /// h\n//! i\nj", "a c g j"),
        ("an unfinished comment", "a /* b", "a"),
        ("strings", r##"a "b \" c" d "\\" e b"f" g c"h" i"##, "a d e g i"),
        ("raw strings", "a r\"b\\\" c r#\"d \" e\"# f br##\"g \"# h\"## i", "a c f i"),
        ("characters", r"a '\'' b '\\' c 'd' e '\u{1F600}' f b'\'' g '{' h", "a b c e f g h"),
        ("lifetimes", "fn a<'b>(c: &'b str, d: &'static e) 'f: loop {}", "fn a < > ( c : & str , d : & e ) : loop { }"),
        ("raw names", "r#type r", "type r"),
        ("paths", "a::b :: c: d", "a :: b :: c : d"),
        ("names that look like prefixes", "bar br b r c cr", "bar br b r c cr"),
        ("other alphabets", "größe /* é */ 'é' b", "größe b"),
    ] {
        let shown = |token: &(usize, Token<'_>)| match token.1 {
            Token::Word(word) => word.to_owned(),
            Token::PathSeparator => "::".to_owned(),
            Token::Other(c) => c.to_string(),
        };
        let found: Vec<String> = tokens(source).iter().map(shown).collect();
        assert_eq!(found.join(" "), expected, "{name}");
    }
    let lines: Vec<usize> = tokens("a\n/* \n */ b\n\"\n\" c").iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 3, 5]);
}

#[test]
fn every_kind_of_path_is_followed() {
    for (name, module, source, expected) in [
        ("plain", "conv", "use crate::tensor::DType;", "tensor"),
        (
            "nested",
            "conv",
            "use crate::{units, ir::{op::Op, *}, tensor::{self, DType as D}};",
            "units ir ir tensor tensor",
        ),
        ("renamed", "conv", "use crate::units as u; use crate::ir::Graph;", "units ir"),
        ("the root renamed", "conv", "use crate as c;", "crate"),
        ("in an expression", "conv", "let x = crate::tensor::Tensor::new(a, b);", "tensor"),
        ("in a type", "conv", "fn f(x: &crate::ir::Graph) -> Vec<crate::units::Flops> {}", "ir units"),
        (
            "visibility is no path",
            "conv",
            "pub(crate) fn f() {} pub(super) fn g() {} pub(in crate::ir) fn h() {}",
            "ir",
        ),
        ("up from a file", "conv", "use super::tensor::DType;", "tensor"),
        ("up within a folder", "profile::shader::gpu", "use super::{data, super::sampling};", "profile profile"),
        ("up and out of a folder", "profile::shader::gpu", "use super::super::super::select::rank;", "select"),
        ("self", "ir::op", "use self::inner::X; self::f(); self.x", "ir ir"),
        ("inline tests", "conv", "mod tests { use super::*; mod deep { use super::super::super::ir; } }", "conv ir"),
        ("after inline tests", "conv", "mod tests { fn f() { if x { } } } use super::tensor;", "tensor"),
        ("everything", "conv", "use crate::*;", "*"),
        ("by the library's name", "cli::run", "use bbc::{image::{self, Picture}, tensor};", "image image tensor"),
        ("a macro of the root", "conv", "$crate::tensor::f!()", "tensor"),
        ("with arguments", "conv", "crate::ir::f::<u8>()", "ir"),
        ("in a comment", "conv", "// use crate::ir;\n", ""),
        ("not the first word", "conv", "a::crate_::b; x::super_::y", ""),
    ] {
        let module: Vec<String> = module.split("::").map(String::from).collect();
        let found: Vec<String> = imports(&module, &tokens(source)).into_iter().map(|import| import.target).collect();
        assert_eq!(found.join(" "), expected, "{name}");
    }
}

#[test]
fn breaches_are_found() {
    let module = |path: &str| module_of(path);
    for (name, path, target, is_breach) in [
        ("below", "src/conv.rs", "tensor", false),
        ("above", "src/tensor.rs", "conv", true),
        ("itself", "src/profile/mod.rs", "profile", false),
        ("measuring and generating", "src/profile/shader/gpu.rs", "backbone", true),
        ("the root", "src/lib.rs", "report", false),
        ("commands", "src/cli/run.rs", "runtime", false),
        ("main imports cli", "src/main.rs", "cli", false),
        ("main imports nothing else", "src/main.rs", "runtime", true),
        ("the library imports cli", "src/image.rs", "cli", true),
        ("a module unheard of", "src/cli/run.rs", "helpers", true),
        ("everything at once", "src/conv.rs", "*", true),
        ("tests of the generator", "src/backbone/tests.rs", "pass", false),
        ("the generator itself", "src/backbone/block.rs", "pass", true),
        ("tests of another module", "src/conv/tests.rs", "pass", true),
        ("a file that is not in the table", "src/helpers.rs", "tensor", true),
    ] {
        assert_eq!(breach(&module(path), target).is_some(), is_breach, "{name}");
    }
}

#[test]
fn paths_are_told_from_addresses() {
    let home = concat!("/wo", "rk/");
    for (line, expected) in [
        (format!("cd {home}x"), true),
        (format!("\"{home}x\""), true),
        (format!("{home}x"), true),
        (format!("https://example.org{home}x"), false),
        (format!("https://host:80{home}x and {home}y"), true),
    ] {
        assert_eq!(contains(&line, home), expected, "{line}");
    }
}

#[test]
fn crates_are_found_by_name() {
    for (name, source, expected) in [
        ("in use", "use ort::session;\nuse ::ort::x;", vec![1, 2]),
        ("in an expression", "let x = ort::init();", vec![1]),
        ("in an attribute", "#[derive(ort::Message)]", vec![1]),
        ("alone", "use ort;\nextern crate ort;", vec![1, 2]),
        ("a module of that name", "use crate::x::ort::y; self::ort::z();", vec![]),
        ("a module of that name, imported", "use super::{ort, output}; ort::runtime(); ::ort::init();", vec![1]),
        ("a module of that name and its parts", "use super::ort::{self, Verdict}; ort::runtime();", vec![]),
        ("a module of that name, declared", "mod ort;\nort::runtime();", vec![]),
        ("another word", "let ort = 1; sort::x(); \"ort::y\"", vec![]),
    ] {
        assert_eq!(lines_naming("ort", &tokens(source)), expected, "{name}");
    }
}
