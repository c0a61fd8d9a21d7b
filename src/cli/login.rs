//! `nativebuild login` and `nativebuild logout`: logins for registries, in the files that docker and podman share.
//!
//! A login is shown to the registry before it is kept. What is said goes to standard error; standard output has the name
//! that `--get-login` asks for.

use super::args::Progress;
use super::environment::Environment;
use super::logins::{self, AuthArgs};
use super::network::{self, TlsArgs};
use super::report::Style;
use super::{build, print_data, terminal};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::{Credentials, Forgotten, LoginTarget, Registry, Saved, Verified};
use crate::progress::Emitter;
use clap::Args;
use std::io::Read;
use std::path::PathBuf;

/// Bytes of a password.
const LARGEST: u64 = 16 << 10;

/// `nativebuild login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Registry, `HOST[:PORT]`, or a part of it, `HOST[:PORT]/REPOSITORY`
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry: String,
    /// Name of the user
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Password or token; others on this machine can see it, `--password-stdin` is safe
    #[arg(short, long, value_name = "SECRET")]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    pub password_stdin: bool,
    /// Only print the name of the user who is logged in
    #[arg(long, conflicts_with_all = ["password", "password_stdin", "username"])]
    pub get_login: bool,
    /// File for logins, instead of podman's or docker's [default: REGISTRY_AUTH_FILE, then those]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// How the registry is checked.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// `nativebuild logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry, or a part of it, as it was named for the login
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry: String,
    /// Forget all logins
    #[arg(short, long, conflicts_with = "registry")]
    pub all: bool,
    /// File with logins [default: all places where logins are looked for]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
}

pub(super) fn login(args: &LoginArgs, environment: &Environment, style: Style) -> Result<()> {
    let target = LoginTarget::parse(&args.registry)?;
    let emitter = build::emitter(Progress::Plain, style);
    if args.get_login {
        let credentials = logins::credentials(&auth(args), environment)?;
        let user = credentials.user(&target, environment.warnings())?;
        let user = user.ok_or_else(|| not_logged_in(&target))?;
        return print_data(format!("{user}\n").as_bytes());
    }
    let place = logins::home(args.authfile.as_ref(), environment)?;
    let places = logins::places(args.authfile.as_ref(), environment);
    if is_still_in(args, &target, environment, &emitter)? {
        return Ok(());
    }
    let (user, password) = ask(args, &target, &emitter)?;
    // Other logins have no say in it.
    let net = network::without_logins(&args.tls, environment)?;
    let verified = Registry::new(&net)?.verify(&target, &user, &password)?;
    if verified == Verified::Open {
        emitter.warn(format!(
            "registry `{}` lets everybody in: it did not look at the login",
            target.name()
        ));
    }
    let saved = places.save(&place, &target, &user, &password)?;
    emitter.note(format!("the login for {} is kept in {}", target.name(), shown(&saved)));
    emitter.note("Login Succeeded!");
    warn_of_another(args, &target, &user, environment, &emitter);
    Ok(())
}

/// Without a name and a password a login that is known and good is enough.
fn is_still_in(
    args: &LoginArgs,
    target: &LoginTarget,
    environment: &Environment,
    emitter: &Emitter,
) -> Result<bool> {
    let exists = args.authfile.as_ref().is_none_or(|path| path.exists());
    if args.username.is_some() || args.password.is_some() || args.password_stdin || !exists {
        return Ok(false);
    }
    let net = network::net_config(&args.tls, &auth(args), environment)?;
    let known = Registry::new(&net)?.verify_known(target);
    let good = matches!(known, Ok(Some(Verified::Good)));
    if good {
        emitter.note(format!("the login for {} that is known is good", target.name()));
        emitter.note("Login Succeeded!");
    }
    Ok(good)
}

/// Name and password, from flags, standard input or the terminal.
fn ask(args: &LoginArgs, target: &LoginTarget, emitter: &Emitter) -> Result<(String, String)> {
    if args.password_stdin && args.username.is_none() {
        return Err(Error::usage("`--password-stdin` needs `--username`"));
    }
    if args.password.is_some() {
        emitter.warn(
            "others on this machine can see the password of `--password`: use `--password-stdin`",
        );
    }
    let complete = args.username.is_some() && (args.password.is_some() || args.password_stdin);
    if !complete && !terminal::is_there() {
        let missing = if args.username.is_some() { "a password" } else { "a name and a password" };
        return Err(Error::usage(format!("no terminal to ask for {missing}")).hint(format!(
            "write `nativebuild login -u NAME --password-stdin {} < FILE`",
            target.name()
        )));
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => terminal::line(&format!("Username for {}: ", target.name()))?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => piped()?,
        None => terminal::password("Password: ")?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Error::usage("the name of a user is not empty and has no colon"));
    }
    if password.is_empty() {
        return Err(Error::usage("the password is empty"));
    }
    Ok((user, password))
}

/// All of standard input but the end of its line.
fn piped() -> Result<String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes);
    read.or_error(ErrorKind::Usage, || "cannot read the password".to_owned())?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::usage("the password on standard input is too long")
            .cause(format!("it has more than {} KiB", LARGEST >> 10)));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Error::usage("the password is no UTF-8 text"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// The environment, or a file that is asked before the one that was written, may have another login.
fn warn_of_another(
    args: &LoginArgs,
    target: &LoginTarget,
    user: &str,
    environment: &Environment,
    emitter: &Emitter,
) {
    let user_of = |credentials: Credentials| credentials.user(target, environment.warnings());
    let found = logins::credentials(&auth(args), environment).and_then(user_of);
    let Ok(Some(found)) = found else { return };
    if found == user {
        return;
    }
    let name = target.name();
    let of_variable = logins::of_variable(environment).and_then(user_of);
    let remedy = match &args.authfile {
        _ if matches!(of_variable, Ok(Some(_))) => format!("{} has it", logins::CREDENTIALS),
        // It may be for more than this part, and such a one stays.
        _ if name.contains('/') => "`nativebuild logout` with what it is for removes it".to_owned(),
        Some(file) => {
            format!("`nativebuild logout --authfile {} {name}` removes all", file.display())
        }
        None => format!("`nativebuild logout {name}` removes all"),
    };
    emitter.warn(format!("another login for {name} comes before it, that of `{found}`: {remedy}"));
}

pub(super) fn logout(args: &LogoutArgs, environment: &Environment, style: Style) -> Result<()> {
    let emitter = build::emitter(Progress::Plain, style);
    let target = LoginTarget::parse(&args.registry)?;
    let places = logins::places(args.authfile.as_ref(), environment);
    let gone = places.forget((!args.all).then_some(&target))?;
    for Forgotten { name, place } in &gone {
        emitter.note(format!("removed the login for {name} from {}", shown(place)));
    }
    if gone.is_empty() {
        let none = format!("not logged in to {}", target.name());
        emitter.note(if args.all { "there are no logins".to_owned() } else { none });
    }
    Ok(())
}

fn auth(args: &LoginArgs) -> AuthArgs {
    AuthArgs { authfile: args.authfile.clone(), ..AuthArgs::default() }
}

fn shown(place: &Saved) -> String {
    match place {
        Saved::File(path) => format!("`{}`", path.display()),
        Saved::Helper(name) => name.clone(),
    }
}

fn not_logged_in(target: &LoginTarget) -> Error {
    Error::registry(format!("not logged in to {}", target.name()))
        .hint(format!("`nativebuild login {}`", target.name()))
}
