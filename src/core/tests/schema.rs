//! As much of JSON Schema (draft 2020-12) as the project's schemas use for types and members.
use crate::json::{Value, parse};
use std::path::Path;

/// Panics with a path if the value is not what `schemas/NAME.schema.json` says.
pub fn assert_valid(value: &Value, name: &str) {
    let file = format!("{name}.schema.json");
    if let Err(e) = check(value, &load(&file), &file, "") {
        panic!("{name}: {e}\n{}", value.canonical());
    }
}

fn load(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(file);
    parse(&std::fs::read(path).unwrap()).unwrap()
}

fn check(value: &Value, schema: &Value, file: &str, at: &str) -> Result<(), String> {
    let fail = |what: String| Err(format!("{at}: {what}"));
    if schema.as_bool() == Some(true) {
        return Ok(());
    }
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$ref" => {
                let (target, pointer) = rule.as_str().unwrap().split_once('#').unwrap();
                let target = if target.is_empty() { file } else { target };
                let whole = load(target);
                let steps = pointer.split('/').skip(1);
                let found = steps.fold(&whole, |v, step| v.member(step).unwrap());
                check(value, found, target, at)?;
            }
            "type" if !has_type(value, rule.as_str().unwrap()) => {
                return fail(format!("is no {}", rule.canonical()));
            }
            "enum" if !rule.as_array().unwrap().contains(value) => {
                return fail(format!("is none of {}", rule.canonical()));
            }
            "anyOf" => {
                let fits = |s: &Value| check(value, s, file, at).is_ok();
                if !rule.as_array().unwrap().iter().any(fits) {
                    return fail(format!("fits none of {}", rule.canonical()));
                }
            }
            "minimum" if value.as_f64().is_some_and(|n| n < rule.as_f64().unwrap()) => {
                return fail("is too small".into());
            }
            "maximum" if value.as_f64().is_some_and(|n| n > rule.as_f64().unwrap()) => {
                return fail("is too large".into());
            }
            "maxLength"
                if value.as_str().is_some_and(|t| t.chars().count() as i64 > rule.as_int().unwrap()) =>
            {
                return fail("is too long".into());
            }
            "maxItems" if value.as_array().is_some_and(|a| a.len() as i64 > rule.as_int().unwrap()) => {
                return fail("has too many items".into());
            }
            "required" => {
                for name in rule.as_array().unwrap().iter().filter_map(Value::as_str) {
                    if value.member(name).is_none() {
                        return fail(format!("has no {name}"));
                    }
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(member) = value.member(name) {
                        check(member, rule, file, &format!("{at}/{name}"))?;
                    }
                }
                // A member that the schema does not name is one that nobody was told of.
                let named = |name: &str| rule.member(name).is_some();
                let open = schema.member("additionalProperties").is_some();
                for (name, _) in value.as_object().unwrap_or_default() {
                    if !named(name) && !open {
                        return fail(format!("has the unknown member {name}"));
                    }
                }
            }
            "additionalProperties" => {
                for (name, member) in value.as_object().unwrap_or_default() {
                    check(member, rule, file, &format!("{at}/{name}"))?;
                }
            }
            "items" => {
                for (i, item) in value.as_array().unwrap_or_default().iter().enumerate() {
                    check(item, rule, file, &format!("{at}/{i}"))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.as_object().is_some(),
        "array" => value.as_array().is_some(),
        "string" => value.as_str().is_some(),
        "boolean" => value.as_bool().is_some(),
        "integer" => value.as_int().is_some(),
        "number" => value.as_f64().is_some(),
        _ => *value == Value::Null,
    }
}
