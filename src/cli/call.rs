//! `--check` and `--call`: what is asked of a Dockerfile instead of building it.
//!
//! In: the flags and a request. Out: remarks on standard error and an error when there are any; outlines and targets on
//! standard output. No privileges and no network are needed. docs/cli.md "Checks".

use super::args::BuildArgs;
use super::print_data;
use super::progress::Form;
use super::report::{self, Style};
use crate::build::check::{self, Checked};
use crate::build::request::BuildRequest;
use crate::build::store::Store;
use crate::dockerfile::suggest::nearest;
use crate::error::{Error, Result};
use crate::plan::{Outline, Required, Target};
use crate::progress::{CheckWarning, Emitter, Event};
use serde_json::json;
use std::io::Write;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Build,
    Check,
    Outline,
    Targets,
}

/// `--call METHOD[,format=text|json]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) json: bool,
}

/// Where and how the answer is told.
pub(super) struct Teller<'a> {
    pub(super) emitter: &'a Emitter,
    pub(super) form: Form,
    pub(super) style: Style,
}

/// Reads `--call` and `--check`, which is short for `--call check`.
pub(super) fn parse(args: &BuildArgs) -> Result<Call> {
    let mut fields = args.call.split(',').filter(|field| !field.is_empty());
    let known = ["build", "check", "outline", "targets"];
    let method = match fields.next().unwrap_or("build") {
        "build" => Method::Build,
        // Buildx had this name first.
        "check" | "lint" => Method::Check,
        "outline" => Method::Outline,
        "targets" => Method::Targets,
        other => {
            let error = Error::usage(format!("`--call {other}` is not known"));
            return Err(match nearest(other, &known) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("it is one of `{}`", known.join("`, `"))),
            });
        }
    };
    let mut json = false;
    for field in fields {
        json = match field {
            "format=json" => true,
            "format=text" => false,
            other => {
                return Err(Error::usage(format!("`--call` has no option `{other}`"))
                    .hint("write `format=json` or `format=text`"));
            }
        };
    }
    match (args.check, method) {
        (false, method) => Ok(Call { method, json }),
        (true, Method::Build | Method::Check) => Ok(Call { method: Method::Check, json }),
        (true, _) => Err(Error::usage("`--check` and another `--call` exclude each other")),
    }
}

/// Answers everything but [`Method::Build`].
pub(super) fn run(
    call: Call,
    request: &BuildRequest,
    store: Option<&Store>,
    teller: &Teller<'_>,
) -> Result<()> {
    match call.method {
        Method::Check => tell(check::check(request, store)?, call.json, teller),
        Method::Targets => {
            let targets = check::targets(request)?;
            print(if call.json { targets_json(&targets) } else { targets_text(&targets) })
        }
        Method::Build | Method::Outline => {
            let outline = check::outline(request, store)?;
            print(if call.json { outline_json(&outline) } else { outline_text(&outline) })
        }
    }
}

fn print(text: String) -> Result<()> {
    print_data(text.as_bytes())
}

fn tell(checked: Checked, json: bool, teller: &Teller<'_>) -> Result<()> {
    let Checked { warnings, error } = checked;
    let count = warnings.len();
    if json {
        print(warnings_json(&warnings))?;
    } else if count == 0 && error.is_none() {
        teller.emitter.note("no warnings");
    } else {
        tell_warnings(warnings, teller);
    }
    match (error, count) {
        (Some(error), _) => Err(error),
        (None, 0) => Ok(()),
        (None, 1) => Err(Error::dockerfile("the checks found a warning")),
        (None, count) => Err(Error::dockerfile(format!("the checks found {count} warnings"))),
    }
}

fn tell_warnings(warnings: Vec<CheckWarning>, teller: &Teller<'_>) {
    if !matches!(teller.form, Form::Plain | Form::Tty) {
        for warning in warnings {
            teller.emitter.emit(Event::Check(warning));
        }
        return;
    }
    let text: String =
        warnings.iter().map(|warning| report::warning(warning, teller.style) + "\n").collect();
    // As with errors, nobody may be listening.
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

fn warnings_json(warnings: &[CheckWarning]) -> String {
    let warning = |warning: &CheckWarning| {
        json!({
            "rule": warning.rule, "message": warning.message,
            "file": warning.place.source.name(), "line": warning.line(),
        })
    };
    pretty(&json!({"warnings": warnings.iter().map(warning).collect::<Vec<_>>()}))
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

fn targets_text(targets: &[Target]) -> String {
    let mut rows = vec![["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for target in targets {
        let name = match (&target.name, target.is_default) {
            (Some(name), false) => name.clone(),
            (Some(name), true) => format!("{name} (default)"),
            (None, _) => "(default)".to_owned(),
        };
        rows.push([name, target.description.clone().unwrap_or_default()]);
    }
    table(&rows)
}

fn targets_json(targets: &[Target]) -> String {
    let target = |target: &Target| {
        json!({
            "name": target.name, "default": target.is_default,
            "description": target.description, "base": target.base,
        })
    };
    pretty(&json!({"targets": targets.iter().map(target).collect::<Vec<_>>()}))
}

fn outline_text(outline: &Outline) -> String {
    let mut head = vec![[
        "TARGET:".to_owned(),
        outline.name.clone().unwrap_or_else(|| "(default)".to_owned()),
    ]];
    head.extend(outline.description.iter().map(|text| ["DESCRIPTION:".to_owned(), text.clone()]));
    let mut out = table(&head);
    if !outline.args.is_empty() {
        let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned)];
        for arg in &outline.args {
            let (value, description) = (arg.value.clone(), arg.description.clone());
            rows.push([
                arg.name.clone(),
                value.unwrap_or_default(),
                description.unwrap_or_default(),
            ]);
        }
        out += &format!("\n{}", table(&rows));
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if list.is_empty() {
            continue;
        }
        let mut rows = vec![[title.to_owned(), "REQUIRED".to_owned()]];
        let row = |it: &Required| {
            [it.id.clone(), if it.required { "true".to_owned() } else { String::new() }]
        };
        rows.extend(list.iter().map(row));
        out += &format!("\n{}", table(&rows));
    }
    out
}

fn outline_json(outline: &Outline) -> String {
    let arg = |arg: &crate::plan::OutlineArg| json!({"name": arg.name, "value": arg.value, "description": arg.description});
    let required = |list: &[Required]| -> serde_json::Value {
        list.iter().map(|it| json!({"name": it.id, "required": it.required})).collect()
    };
    pretty(&json!({
        "name": outline.name,
        "description": outline.description,
        "args": outline.args.iter().map(arg).collect::<Vec<_>>(),
        "secrets": required(&outline.secrets),
        "ssh": required(&outline.ssh),
    }))
}

/// Rows with columns as wide as they need, three blanks between them; control characters are made visible.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| report::visible(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line =
            cells.fold(String::new(), |line, (cell, width)| line + &format!("{cell:<width$}   "));
        out += line.trim_end();
        out.push('\n');
    }
    out
}
