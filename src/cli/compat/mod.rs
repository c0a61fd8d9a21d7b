//! Options of other builders that have no meaning here, or none yet: one table for parsing, warnings and errors.
//!
//! In: a [`Table`] of options; out: a group of arguments for clap, hidden from help, and for what was typed either one
//! warning for each reason or an error. Options that do something are in `args` and [`real`]. docs/compat.md counts both;
//! a test holds it to the tables (design §10.5).

/// A row of a table.
macro_rules! flag {
    ($name:literal, $takes:expr, $fate:expr) => {
        Foreign::new($name, concat!("foreign-", $name), $takes, $fate)
    };
}
pub(in crate::cli) use flag;

mod flags;
pub mod real;

pub use flags::BuildTable;

use crate::error::{Error, Result};
use crate::progress::Emitter;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::marker::PhantomData;

/// What an option has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing (`=true` and `=false` are understood, as for every switch).
    Nothing,
    /// A value.
    Value,
    /// A value after `=`, or nothing.
    Maybe,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Asks for what is so anyway.
    Granted,
    /// Has no effect: why.
    Ignored(&'static str),
    /// Would change the result, and is not carried out: what to do.
    Refused(&'static str),
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// Long name.
    pub name: &'static str,
    /// What clap calls it; not what it would call an option of that name with a meaning.
    pub id: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Other long names.
    pub aliases: &'static [&'static str],
    /// What it has behind it.
    pub takes: Takes,
    /// What becomes of it.
    pub fate: Fate,
    /// Values that ask for what is so anyway; "" is the option alone.
    pub granted: &'static [&'static str],
}

impl Foreign {
    pub(in crate::cli) const fn new(
        name: &'static str,
        id: &'static str,
        takes: Takes,
        fate: Fate,
    ) -> Self {
        Self { name, id, short: None, aliases: &[], takes, fate, granted: &[] }
    }

    pub(in crate::cli) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    pub(in crate::cli) const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    pub(in crate::cli) const fn granted(self, granted: &'static [&'static str]) -> Self {
        Self { granted, ..self }
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.id).long(self.name).aliases(self.aliases).hide(true);
        let arg = self.short.map_or(arg.clone(), |short| arg.short(short));
        let arg = match self.takes {
            Takes::Nothing => return arg.action(ArgAction::SetTrue),
            Takes::Value => arg.num_args(1).allow_hyphen_values(true),
            Takes::Maybe => arg.num_args(0..=1).require_equals(true).default_missing_value(""),
        };
        arg.action(ArgAction::Append).value_name("VALUE")
    }
}

/// Options of one command.
pub trait Table {
    /// The options.
    const FLAGS: &'static [Foreign];
}

/// The options of a table that were typed, with their values, in the order of the table.
#[derive(Debug)]
pub struct ForeignArgs<T> {
    typed: Vec<(&'static Foreign, Vec<String>)>,
    table: PhantomData<T>,
}

impl<T> Default for ForeignArgs<T> {
    fn default() -> Self {
        Self { typed: Vec::new(), table: PhantomData }
    }
}

impl<T: Table> Args for ForeignArgs<T> {
    fn augment_args(command: Command) -> Command {
        let taken: Vec<String> =
            command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
        // An option that got a meaning needs no row any more; its own definition wins.
        let rest = T::FLAGS.iter().filter(|flag| !taken.iter().any(|name| name == flag.name));
        command.args(rest.map(Foreign::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Table> FromArgMatches for ForeignArgs<T> {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let mut typed = Vec::new();
        for flag in T::FLAGS {
            if matches.try_contains_id(flag.id).is_err()
                || matches.value_source(flag.id) != Some(ValueSource::CommandLine)
            {
                continue;
            }
            let values = match flag.takes {
                Takes::Nothing => Vec::new(),
                Takes::Value | Takes::Maybe => {
                    matches.get_many::<String>(flag.id).into_iter().flatten().cloned().collect()
                }
            };
            typed.push((flag, values));
        }
        Ok(Self { typed, table: PhantomData })
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|new| *self = new)
    }
}

impl<T> ForeignArgs<T> {
    /// One warning for each reason; an error for the first option that cannot be left out.
    pub(super) fn tell(&self, emitter: &Emitter) -> Result<()> {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (flag, values) in &self.typed {
            let granted = |value: &String| flag.granted.contains(&value.as_str());
            if !values.is_empty() && values.iter().all(granted) {
                continue;
            }
            let shown = format!("`--{}`", flag.name);
            match flag.fate {
                Fate::Granted => {}
                Fate::Refused(hint) => {
                    let error = Error::environment(format!("not yet supported: {shown}"));
                    return Err(if hint.is_empty() { error } else { error.hint(hint) });
                }
                Fate::Ignored(reason) => match reasons.iter_mut().find(|(r, _)| *r == reason) {
                    Some((_, names)) => names.push(shown),
                    None => reasons.push((reason, vec![shown])),
                },
            }
        }
        for (reason, names) in reasons {
            let verb = if names.len() == 1 { "has" } else { "have" };
            emitter.warn(format!("{} {verb} no effect: {reason}", names.join(", ")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
