//! Compares an answer with its description: as much of JSON Schema as `openapi.json` uses, and nothing else goes.

use serde_json::Value;

/// Panics where `value` is not what `schema` of `document` describes.
pub(super) fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    for (keyword, rule) in schema.as_object().unwrap_or_else(|| panic!("{at}: a schema is an object")) {
        match keyword.as_str() {
            "$ref" => check(document, find(document, rule), value, at),
            "type" => assert!(types(rule).any(|name| is(value, name)), "{at}: {value} is no {rule}"),
            // Whether it may be null, the type says.
            "properties" | "required" | "additionalProperties" if value.is_null() => {}
            "properties" | "required" | "additionalProperties" => object(document, schema, value, at),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, rule, item, &format!("{at}[{i}]"));
                }
            }
            "enum" => assert!(rule.as_array().unwrap().contains(value), "{at}: {value} is none of {rule}"),
            "minimum" => {
                assert!(value.is_null() || value.as_f64() >= rule.as_f64(), "{at}: {value} < {rule}")
            }
            "pattern" => {
                assert!(matches(rule.as_str().unwrap(), value), "{at}: {value} does not match {rule}")
            }
            "description" => {}
            other => panic!("{at}: this check does not know {other}"),
        }
    }
}

/// What a `$ref` refers to.
pub(super) fn find<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let path = reference.as_str().and_then(|text| text.strip_prefix('#')).unwrap();
    document.pointer(path).unwrap_or_else(|| panic!("{path} is not in the document"))
}

/// Every property is described, and every described one is there: we have no optional fields, null says "not known".
fn object(document: &Value, schema: &Value, value: &Value, at: &str) {
    let described = schema["properties"].as_object().unwrap();
    let mut required: Vec<&str> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    required.sort_unstable();
    let mut names: Vec<&str> = described.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(required, names, "{at}: what is described is required");
    assert_eq!(schema["additionalProperties"], false, "{at}");
    let mut there: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    there.sort_unstable();
    assert_eq!(there, names, "{at}");
    for (name, schema) in described {
        check(document, schema, &value[name], &format!("{at}.{name}"));
    }
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    let several = rule.as_array().into_iter().flatten();
    rule.as_str().into_iter().chain(several.map(|name| name.as_str().unwrap()))
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

fn matches(pattern: &str, value: &Value) -> bool {
    let Some(text) = value.as_str() else { return value.is_null() };
    match pattern {
        "^[0-9]+$" => !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
        "^[0-9a-f]{64}$" => text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        other => panic!("this check does not know the pattern {other}"),
    }
}
