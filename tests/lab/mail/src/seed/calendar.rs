//! Appointments and tasks. All that a calendar shows is in their metadata; few have a blob.

use super::build::{Item, NOW, Place, kind};
use super::items::Planned;
use super::{Spec, text};
use crate::bencode::{Dict, Value, dict, encode};

/// 2024-01-08 08:30 UTC, a Monday. All that is planned is in winter, when Berlin is an hour ahead.
const MONDAY: i64 = 1_704_702_600;
const DAY: i64 = 86_400;
const BERLIN: i64 = 3600;

/// The weeks of a series.
const WEEKS: i64 = 12;

/// When something is, in seconds since 1970; a task may be for no time at all.
#[derive(Clone, Copy)]
pub(super) struct Time {
    start: i64,
    end: i64,
}

impl Time {
    fn of(rng: &mut fastrand::Rng) -> Self {
        let start = MONDAY + rng.i64(0..40) * DAY + 365 * DAY * rng.i64(0..10);
        Self { start, end: start + 1800 * rng.i64(1..5) }
    }
}

/// Makes an item an appointment or a task, and says in which row of times it stands.
pub(super) fn plan(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned, kind: u8) {
    let title = text::words(rng, 3);
    let uid = format!("{}-{}@lab.test", item.id, spec.seed);
    let notes = text::words(rng, 12);
    let time = (kind == kind::APPOINTMENT || rng.bool()).then(|| Time::of(rng));
    let is_series = kind == kind::APPOINTMENT && rng.u32(..4) == 0;
    let mut metadata = metadata(spec, kind, item.id, &title, &uid, &notes, time);
    let (start, mut end) = time.map_or((0, 0), |time| (time.start, time.end));
    if let Some(time) = time.filter(|_| is_series) {
        repeat(&mut metadata, item.id, time);
        end += (WEEKS - 1) * 7 * DAY;
    }
    item.metadata = Some(encode(&metadata));
    into_item(spec, item, kind, &title);
    // Only long texts and attachments are kept beside the metadata.
    if item.id.is_multiple_of(5) {
        let bytes = text::message(spec.mailbox, item.id, &spec.email, &title, 5000 + rng.usize(..5000));
        planned.blob = Some((bytes, Place::default()));
    }
    let end = if time.is_some() { timestamp(end) } else { "9999-02-01 00:00:00".into() };
    planned.times = Some([uid, timestamp(start), end]);
}

/// The columns of an appointment or task.
pub(super) fn into_item(spec: &Spec, item: &mut Item, kind: u8, title: &str) {
    item.kind = kind;
    item.folder = Some(if kind == kind::TASK { 15 } else { 10 });
    item.index_id = Some(item.id);
    item.imap_id = Some(item.id);
    item.uuid = None;
    item.unread = None;
    item.subject = Some(title.into());
    // The organizer's name and address, joined.
    item.sender = Some(if kind == kind::TASK { String::new() } else { format!("user{}", spec.email) });
}

/// An appointment or task with one invitation.
pub(super) fn metadata(
    spec: &Spec,
    kind: u8,
    item: u32,
    title: &str,
    uid: &str,
    notes: &str,
    time: Option<Time>,
) -> Dict {
    let zone =
        || if time.is_some() && kind == kind::APPOINTMENT { dict([("#0", berlin().into())]) } else { Dict::new() };
    let (start, end) = time.map_or((0, 0), |time| (time.start * 1000, time.end * 1000));
    dict([
        ("ape", end.into()),
        ("aps", start.into()),
        ("inv0", invitation(spec, kind, item, title, uid, notes, time, zone()).into()),
        ("nc", 1.into()),
        ("rl", dict([("n", 0.into())]).into()),
        ("tzm", zone().into()),
        ("u", uid.into()),
        ("v", 10.into()),
    ])
}

#[expect(clippy::too_many_arguments, reason = "an invitation says all this")]
fn invitation(
    spec: &Spec,
    kind: u8,
    item: u32,
    title: &str,
    uid: &str,
    notes: &str,
    time: Option<Time>,
    zone: Dict,
) -> Dict {
    let now = Value::Int(i64::from(NOW) * 1000);
    let is_task = kind == kind::TASK;
    let mut all = dict([
        ("af", 2.into()),
        ("byme", "false".into()),
        ("clSetByMe", "false".into()),
        ("comp", 0.into()),
        ("desc", notes.into()),
        ("dinM", "true".into()),
        ("dts", now.clone()),
        ("frag", notes.chars().take(150).collect::<String>().into()),
        ("isOrg", "true".into()),
        ("it", i64::from(kind).into()),
        ("l", "".into()),
        ("lastMod", now),
        ("lfseq", 0.into()),
        ("mid", i64::from(item).into()),
        ("mthd", if is_task { "PUBLISH" } else { "REQUEST" }.into()),
        ("n", title.into()),
        ("numAt", if is_task { "0" } else { "1" }.into()),
        ("ptst", "AC".into()),
        ("rsvp", "false".into()),
        ("seq", 0.into()),
        ("status", if is_task { "NEED" } else { "CONF" }.into()),
        ("tr", "O".into()),
        ("tzm", zone.into()),
        ("u", uid.into()),
    ]);
    if let Some(time) = time {
        // A task is for whole days, which are the same everywhere.
        let told = if is_task { day } else { local };
        all.extend(dict([("et", told(time.end).into()), ("st", told(time.start).into())]));
    }
    if !is_task {
        let who = |address: &str| [("a", Value::from(address)), ("cn", "user".into())];
        let mut guest = dict(who("guest@elsewhere.test"));
        guest.extend(dict([("ptst", "NE".into()), ("r", "REQ".into()), ("v", "1".into())]));
        all.extend(dict([("at0", guest.into()), ("fb", "B".into()), ("org", dict(who(&spec.email)).into())]));
    }
    all
}

/// Makes it happen every week.
fn repeat(all: &mut Dict, item: u32, time: Time) {
    let first = || Value::from(local(time.start));
    let id = || Value::from(dict([("c", 0.into()), ("i", i64::from(item).into()), ("m", 1.into())]));
    let length = || Value::from(format!("PT{}M", (time.end - time.start) / 60));
    let rule = dict([
        ("dts", first()),
        ("dur", length()),
        ("inv", id()),
        ("recur", format!("FREQ=WEEKLY;COUNT={WEEKS};INTERVAL=1").into()),
        ("t", 2.into()),
    ]);
    let series = Value::from(dict([
        ("add", dict([("nr", 1.into()), ("r0", rule.into())]).into()),
        ("dts", first()),
        ("duration", length()),
        ("invid", id()),
        ("numEx", "0".into()),
        ("t", "4".into()),
    ]));
    if let Some(Value::Dict(invitation)) = all.get_mut("inv0") {
        invitation.insert("recurrence".into(), series.clone());
    }
    all.insert("apptRecur".into(), series);
}

fn berlin() -> Dict {
    let rule = |month: u32| Value::from(format!("FREQ=YEARLY;WKST=MO;INTERVAL=1;BYMONTH={month};BYDAY=-1SU"));
    dict([
        ("d2sr", rule(10)),
        ("d2ss", "16010101T030000".into()),
        ("do", 7_200_000.into()),
        ("s2dr", rule(3)),
        ("s2ds", "16010101T020000".into()),
        ("so", 3_600_000.into()),
        ("tzid", "Europe/Berlin".into()),
    ])
}

/// As an invitation has it.
fn local(seconds: i64) -> String {
    let [y, mo, d, h, m, s] = parts(seconds + BERLIN);
    format!("TZID=Europe/Berlin:{y:04}{mo:02}{d:02}T{h:02}{m:02}{s:02}")
}

/// As an invitation for whole days has it.
fn day(seconds: i64) -> String {
    let [y, mo, d, ..] = parts(seconds);
    format!("VALUE=DATE:{y:04}{mo:02}{d:02}")
}

/// As a row of times has it.
fn timestamp(seconds: i64) -> String {
    let [y, mo, d, h, m, s] = parts(seconds);
    format!("{y:04}-{mo:02}-{d:02} {h:02}:{m:02}:{s:02}")
}

/// Year, month, day, hour, minute, second of a time since 1970, counted in years that start in March.
fn parts(seconds: i64) -> [i64; 6] {
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    [year, month, of_year - (153 * shifted + 2) / 5 + 1, rest / 3600, rest % 3600 / 60, rest % 60]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, told) in
            [(0, "1970-01-01 00:00:00"), (MONDAY, "2024-01-08 08:30:00"), (1_709_208_000, "2024-02-29 12:00:00")]
        {
            assert_eq!(timestamp(seconds), told);
        }
        assert_eq!(local(MONDAY), "TZID=Europe/Berlin:20240108T093000");
        assert_eq!(day(MONDAY), "VALUE=DATE:20240108");
    }
}
