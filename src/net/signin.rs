//! Saying who is asking: from the challenge of a 401 to the Authorization of the next request, and the check of a login
//! before it is kept (distribution-spec token authentication, Basic).
//!
//! A login is shown to the registry that it is for, or to the token service that this registry names, over https or on this
//! machine; redirects do not get it.

use super::auth;
use super::failure::{NetError, NetResult, Trouble};
use super::http::{Answer, Ask, Payload, Plain};
use super::login::{Credentials, Login};
use super::logins::{LoginTarget, Looked};
use super::places::{Place, bad_name};
use super::registry::Registry;
use super::url::Url;
use super::warnings::Warnings;
use crate::error::{Error, Result};

const MAX_TOKEN: u64 = 1 << 20;

/// What a registry says of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It is good.
    Good,
    /// Nobody is asked who he is.
    Open,
}

impl Registry {
    /// Authorization for another attempt after `answer`, a 401; `tried` is what it was given for.
    pub(super) fn authorize(
        &self,
        place: &Place,
        repository: &str,
        scopes: Vec<String>,
        answer: &Answer,
        tried: Option<&str>,
    ) -> NetResult<Option<String>> {
        let looked = self.login(place, repository)?;
        let token = looked.login.as_ref().and_then(Login::token);
        if let Some(token) = token.filter(|token| tried != Some(token)) {
            return Ok(Some(token));
        }
        self.respond(place, repository, scopes, answer, &looked)
    }

    /// What answers a challenge.
    fn respond(
        &self,
        place: &Place,
        repository: &str,
        scopes: Vec<String>,
        answer: &Answer,
        looked: &Looked,
    ) -> NetResult<Option<String>> {
        match auth::bearer(answer.headers("www-authenticate")) {
            Some(challenge) => {
                self.token(place, repository, &challenge.with(scopes), looked).map(Some)
            }
            None if auth::wants_basic(answer.headers("www-authenticate")) => {
                Ok(looked.login.as_ref().and_then(Login::basic))
            }
            None => Ok(None),
        }
    }

    /// Authorization with a fresh token.
    fn token(
        &self,
        place: &Place,
        repository: &str,
        challenge: &auth::Challenge,
        looked: &Looked,
    ) -> NetResult<String> {
        let whom = format!("the token service of {}", place.whom);
        let plain = |realm: &Url| realm.may_be_plain(self.places.plain_for(place, realm));
        let broken = |error| NetError::new(Trouble::Broken, error);
        let basic = looked.login.as_ref().and_then(Login::basic);
        let mut ask = Ask {
            whom: &whom,
            method: "GET",
            url: challenge.token_url(repository, &plain).map_err(broken)?,
            accept: &[],
            headers: &[],
            from: 0,
            payload: Payload::None,
            authorization: basic.as_deref(),
            plain: Plain::Never,
        };
        let form;
        if let Some(Login::Identity(identity)) = &looked.login {
            (ask.url, form) = challenge.token_form(repository, &plain, identity).map_err(broken)?;
            ask.method = "POST";
            ask.headers = &[("content-type", "application/x-www-form-urlencoded")];
            ask.payload = Payload::Bytes(form.as_bytes());
        }
        ask.plain = self.places.plain_for(place, &ask.url);
        let body = self.small(&whom, MAX_TOKEN, || {
            let mut answer = self.http.send(&ask)?;
            if answer.status != 200 {
                // RFC 6749 §5.2: how an identity token is refused.
                if answer.status == 400 && ask.method == "POST" {
                    answer.status = 401;
                }
                if matches!(answer.status, 401 | 403) && !looked.source.is_empty() {
                    answer.login = Some(looked.source.clone());
                }
                return Err(answer.refusal(&whom));
            }
            Ok(answer)
        })?;
        let token = auth::token_of(&body.bytes).ok_or_else(|| {
            let error = Error::registry(format!("{whom} gave no token"));
            NetError::new(Trouble::Broken, error.cause(format!("{} {}", ask.method, body.url)))
        })?;
        Ok(format!("Bearer {token}"))
    }

    /// Asks a registry whether a name and a password are good.
    pub fn verify(&self, target: &LoginTarget, user: &str, password: &str) -> NetResult<Verified> {
        let login = Some(Login::new(user.to_owned(), password.to_owned()));
        self.verify_login(target, &Looked { login, ..Looked::default() })
    }

    /// The same of the login that is known for it; `None` when there is none.
    pub fn verify_known(&self, target: &LoginTarget) -> NetResult<Option<Verified>> {
        let place = self.host(&target.registry)?;
        let looked = self.login(&place, &target.repository)?;
        looked.login.is_some().then(|| self.verify_login(target, &looked)).transpose()
    }

    fn verify_login(&self, target: &LoginTarget, looked: &Looked) -> NetResult<Verified> {
        let place = self.host(&target.registry)?;
        let url =
            Url::parse(&format!("{}/v2/", place.base)).ok_or_else(|| bad_name(&target.registry))?;
        let ask = Ask::get(&place.whom, url, place.plain);
        let answer = self.http.send(&ask)?;
        match answer.status {
            200 => Ok(Verified::Open),
            401 if answer.url.same_origin(&ask.url) => {
                self.try_login(&place, ask, &answer, looked).map(|()| Verified::Good)
            }
            _ => Err(refused(&place, answer.refusal(&place.whom))),
        }
    }

    /// Asks the registry's own address again, as the one that a login makes us; `answer` is the 401 of a request without.
    pub(super) fn try_login(
        &self,
        place: &Place,
        ask: Ask<'_>,
        answer: &Answer,
        looked: &Looked,
    ) -> NetResult<()> {
        self.show_login(place, ask, answer, looked).map_err(|error| refused(place, error))
    }

    fn show_login(
        &self,
        place: &Place,
        ask: Ask<'_>,
        answer: &Answer,
        looked: &Looked,
    ) -> NetResult<()> {
        let authorization = match looked.login.as_ref().and_then(Login::token) {
            Some(token) => Some(token),
            // A service may refuse a scope that is too wide for the login, so none is asked for.
            None => self.respond(place, "", Vec::new(), answer, looked)?,
        };
        let Some(authorization) = authorization else {
            let error = Error::registry(format!("{} asks for a login in no known way", place.whom))
                .cause(format!("GET {}: it wants neither Basic nor Bearer", ask.url));
            return Err(NetError::new(Trouble::Broken, error));
        };
        let ask = Ask { authorization: Some(&authorization), ..ask };
        let answer = self.http.send(&ask)?;
        match answer.status {
            200 => Ok(()),
            _ => Err(answer.refusal(&place.whom)),
        }
    }
}

/// A refusal as one of the login that was shown.
fn refused(place: &Place, error: NetError) -> NetError {
    if error.trouble() != Trouble::Refused {
        return error;
    }
    let message = format!("{} refuses the login", place.whom);
    let told = error.error().causes().iter().fold(Error::registry(message), Error::cause);
    let hint = "check the name and the password; some registries want a token in its place";
    NetError::new(Trouble::Refused, told.hint(hint))
}

impl Credentials {
    /// The user's name in the login for a target; `None` when there is no login.
    pub fn user(&self, target: &LoginTarget, warnings: &Warnings) -> Result<Option<String>> {
        let looked = self.of(&target.registry, &target.repository)?;
        looked.remarks.into_iter().for_each(|remark| warnings.add(remark));
        let login = looked.login;
        // A token names nobody; docker shows this for it.
        Ok(login.map(|login| login.user().unwrap_or("<token>").to_owned()))
    }
}
