//! Which logins registries get: flags and environment → where logins are, in order (docs/registries.md "Logins").

use super::environment::Environment;
use crate::error::{Error, Result};
use crate::net::{AuthForm, AuthPlace, AuthPlaces, Credentials};
use clap::Args;
use std::path::PathBuf;

/// A variable with logins.
pub(super) const CREDENTIALS: &str = "NATIVEBUILD_REGISTRY_CREDS";

/// Where logins are.
#[derive(Clone, Debug, Default, Args)]
pub struct AuthArgs {
    /// File with logins, instead of docker's and podman's [default: REGISTRY_AUTH_FILE, then those]
    #[arg(long, global = true, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Login for this command: `REGISTRY=USER:PASSWORD` or `REGISTRY=TOKEN`; may be repeated [default:
    /// NATIVEBUILD_REGISTRY_CREDS]
    #[arg(long, global = true, value_name = "REGISTRY=SECRET")]
    pub registry_creds: Vec<String>,
}

/// Logins that were given, then those of files.
pub(super) fn credentials(args: &AuthArgs, environment: &Environment) -> Result<Credentials> {
    if let Some(path) = args.authfile.as_ref().filter(|path| !path.exists()) {
        return Err(Error::usage(format!("there is no file `{}`", path.display())).hint(
            "`--authfile` names a file with logins; `nativebuild login --authfile` makes one",
        ));
    }
    let given = Credentials::parse(&args.registry_creds)?;
    let others = of_variable(environment)?;
    Ok(given.or(others).or_look_in(places(args.authfile.as_ref(), environment)))
}

/// Those of [`CREDENTIALS`] alone.
pub(super) fn of_variable(environment: &Environment) -> Result<Credentials> {
    let text = environment.text(CREDENTIALS).unwrap_or_default();
    Credentials::parse(&words(&text))
        .map_err(|error| error.wrap(format!("bad value of {CREDENTIALS} in the environment")))
}

/// One login a line. Several may stand in one line with blanks between them; a password may have blanks in a line of its
/// own.
fn words(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let split = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if words.iter().all(|word| word.contains('=')) { words } else { vec![line.to_owned()] }
    };
    lines.flat_map(split).collect()
}

/// Files and programs, in the order in which they are asked.
pub(super) fn places(authfile: Option<&PathBuf>, environment: &Environment) -> AuthPlaces {
    let programs = environment.path();
    if let Some(path) = authfile {
        return AuthPlaces { files: vec![named(path.clone(), true)], programs };
    }
    let file = |path: PathBuf, form| AuthPlace { path, form, named: false, required: false };
    let home = environment.get("HOME").map(PathBuf::from);
    let config = environment.get("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(home.as_ref()?.join(".config")));
    let mut files = Vec::new();
    files.extend(environment.get("REGISTRY_AUTH_FILE").map(|path| named(path.into(), false)));
    files.push(file(podman_file(environment), AuthForm::Containers));
    files.extend(config.map(|dir| file(dir.join("containers/auth.json"), AuthForm::Containers)));
    let chosen = environment.get("DOCKER_CONFIG").is_some();
    files.extend(
        environment.docker_config().map(|dir| AuthPlace {
            named: chosen,
            ..file(dir.join("config.json"), AuthForm::Docker)
        }),
    );
    files.extend(home.map(|home| file(home.join(".dockercfg"), AuthForm::Legacy)));
    AuthPlaces { files, programs }
}

/// Where a new login goes: what the user named, else podman's file while there is a directory for the session, else
/// docker's.
pub(super) fn home(authfile: Option<&PathBuf>, environment: &Environment) -> Result<AuthPlace> {
    let chosen =
        authfile.cloned().or_else(|| environment.get("REGISTRY_AUTH_FILE").map(Into::into));
    if let Some(path) = chosen {
        return Ok(named(path, false));
    }
    let session = environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    let place = |path, form| AuthPlace { path, form, named: true, required: false };
    if session.is_some_and(|dir| dir.is_absolute() && dir.is_dir()) {
        return Ok(place(podman_file(environment), AuthForm::Containers));
    }
    let docker = environment.docker_config().ok_or_else(|| {
        Error::usage("there is no HOME to keep logins in").hint("name a file with `--authfile`")
    })?;
    Ok(place(docker.join("config.json"), AuthForm::Docker))
}

fn named(path: PathBuf, required: bool) -> AuthPlace {
    AuthPlace { path, form: AuthForm::Containers, named: true, required }
}

/// podman's file of this session.
fn podman_file(environment: &Environment) -> PathBuf {
    let session = environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    let session = session.filter(|dir| dir.is_absolute()).map(|dir| dir.join("containers"));
    session
        .unwrap_or_else(|| {
            let uid = rustix::process::getuid().as_raw();
            PathBuf::from(format!("/run/containers/{uid}"))
        })
        .join("auth.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(set: &[(&str, &str)]) -> Vec<String> {
        let places = places(None, &Environment::of(set));
        let shown = |place: &AuthPlace| {
            format!("{}{}", place.path.display(), if place.named { " named" } else { "" })
        };
        places.files.iter().map(shown).collect()
    }

    #[test]
    fn files_are_asked_in_the_order_of_the_manual() {
        let uid = rustix::process::getuid().as_raw();
        let own = format!("/run/containers/{uid}/auth.json");
        assert_eq!(paths(&[]), std::slice::from_ref(&own));
        assert_eq!(
            paths(&[("HOME", "/h")]),
            [&own, "/h/.config/containers/auth.json", "/h/.docker/config.json", "/h/.dockercfg"]
        );
        assert_eq!(
            paths(&[
                ("HOME", "/h"),
                ("XDG_RUNTIME_DIR", "/r"),
                ("XDG_CONFIG_HOME", "/c"),
                ("DOCKER_CONFIG", "/d"),
                ("REGISTRY_AUTH_FILE", "/a"),
            ]),
            [
                "/a named",
                "/r/containers/auth.json",
                "/c/containers/auth.json",
                "/d/config.json named",
                "/h/.dockercfg"
            ]
        );
        let only = places(Some(&"x".into()), &Environment::of(&[("REGISTRY_AUTH_FILE", "/a")]));
        assert_eq!(only.files, [named("x".into(), true)]);
    }

    #[test]
    fn a_new_login_has_one_place() {
        let home = |set: &[(&str, &str)], flag: Option<&str>| {
            let flag = flag.map(PathBuf::from);
            home(flag.as_ref(), &Environment::of(set)).map(|place| place.path.display().to_string())
        };
        let all = [
            ("HOME", "/h"),
            ("XDG_RUNTIME_DIR", "/"),
            ("DOCKER_CONFIG", "/d"),
            ("REGISTRY_AUTH_FILE", "/a"),
        ];
        assert_eq!(home(&all, Some("f")).unwrap(), "f");
        assert_eq!(home(&all, None).unwrap(), "/a");
        assert_eq!(home(&all[..3], None).unwrap(), "/containers/auth.json");
        assert_eq!(
            home(&[("XDG_RUNTIME_DIR", "/nonexistent"), all[2]], None).unwrap(),
            "/d/config.json"
        );
        assert_eq!(home(&all[..1], None).unwrap(), "/h/.docker/config.json");
        assert_eq!(home(&[], None).unwrap_err().message(), "there is no HOME to keep logins in");
    }

    #[test]
    fn the_environment_may_hold_logins() {
        let of = |text: &str| {
            credentials(&AuthArgs::default(), &Environment::of(&[(CREDENTIALS, text)]))
        };
        let shown = |text: &str| format!("{:?}", of(text).unwrap());
        assert_eq!(shown("a=u:p\nb=token"), r#"["a", "b"]"#);
        assert_eq!(shown(" a=u:p  b=t "), r#"["a", "b"]"#);
        assert_eq!(shown("a=_json_key:{\"x\": \"y\"}\nb=t"), r#"["a", "b"]"#);
        let error = of("a=u:p\nsecret").unwrap_err();
        assert_eq!(error.message(), "bad value of NATIVEBUILD_REGISTRY_CREDS in the environment");
        assert!(!format!("{error:?}").contains("secret\""), "{error:?}");
    }
}
