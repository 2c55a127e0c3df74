//! Who acted, as an alert names them.

use super::{
    Escaped,
    content::{ARN_CHARACTERS, AccountContent, UNTRUSTED_CHARACTERS},
};
use crate::cloudtrail::Actor;

/// Who acted.
#[derive(Clone, Debug)]
pub(super) struct ActorContent {
    pub(super) kind: ActorKind,
    /// `userIdentity.type`.
    pub(super) actor_type: Escaped,
    /// Root, or the kind and name of the actor: enough to know whom to call.
    pub(super) who: Escaped,
    pub(super) name: Option<Escaped>,
    pub(super) session: Option<Escaped>,
    pub(super) arn: Option<Escaped>,
    pub(super) principal_id: Option<Escaped>,
    /// The account that the identity belongs to.
    pub(super) account: Option<AccountContent>,
    pub(super) access_key_id: Option<Escaped>,
    /// The AWS service that acted, alone or on the identity's behalf.
    pub(super) invoked_by: Option<Escaped>,
    pub(super) mfa: Option<bool>,
    /// Whether this is a root session that the management account opened.
    pub(super) assumed_root: bool,
}

/// What an actor is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ActorKind {
    Root,
    User,
    Role,
    Service,
    Other,
}

/// The content of an actor; `account` gives that of an account's id.
pub(super) fn actor(actor: &Actor<'_>, account: impl Fn(&str) -> AccountContent) -> ActorContent {
    let name = |text: Option<&str>| text.map(|text| Escaped::name(text, UNTRUSTED_CHARACTERS));
    let kind = match actor.actor_type {
        "Root" => ActorKind::Root,
        "IAMUser" => ActorKind::User,
        "AssumedRole" | "Role" => ActorKind::Role,
        "AWSService" => ActorKind::Service,
        _ => ActorKind::Other,
    };
    ActorContent {
        kind,
        actor_type: Escaped::name(actor.actor_type, UNTRUSTED_CHARACTERS),
        who: Escaped::name(&who(actor), UNTRUSTED_CHARACTERS),
        name: name(actor.name),
        session: name(actor.session),
        arn: actor.arn.map(|arn| Escaped::name(arn, ARN_CHARACTERS)),
        principal_id: name(actor.principal_id),
        account: actor.account.as_deref().map(account),
        access_key_id: name(actor.access_key_id),
        invoked_by: name(actor.invoked_by),
        mfa: actor.mfa,
        assumed_root: actor.assumed_root,
    }
}

fn who(actor: &Actor<'_>) -> String {
    let named = |kind: &str| match actor.name.or(actor.principal_id) {
        Some(name) => format!("{kind} {name}"),
        None => format!("an unnamed {kind}"),
    };
    match actor.actor_type {
        "Root" => "root".to_owned(),
        "IAMUser" => named("user"),
        "AssumedRole" | "Role" => named("role"),
        "FederatedUser" => named("federated user"),
        "IdentityCenterUser" => named("Identity Center user"),
        "SAMLUser" => named("SAML user"),
        "WebIdentityUser" => named("web identity"),
        "AWSService" => actor
            .invoked_by
            .or(actor.name)
            .map_or_else(|| "an AWS service".to_owned(), str::to_owned),
        "AWSAccount" => actor.account.as_ref().map_or_else(
            || "another account".to_owned(),
            |id| format!("account {id}"),
        ),
        "Unknown" => actor.name.or(actor.access_key_id).map_or_else(
            || "an unknown actor".to_owned(),
            |name| format!("unknown ({name})"),
        ),
        other => named(other),
    }
}
