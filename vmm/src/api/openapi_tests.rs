//! Holds the server against its description, `vmm/api/openapi.yaml`: what it says is so, and nothing else is.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::controller::Controller;
use super::fake::{ask, controller};
use super::http::Method::{self, Get, Patch, Put};
use super::http::{Request, Status};
use super::route::{self, ROUTES};

/// The description.
struct Document(Value);

/// One operation in it.
struct Operation {
    method: Method,
    path: String,
    value: Value,
}

impl Document {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/api/openapi.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut yaml: serde_norway::Value = serde_norway::from_str(&text).unwrap();
        yaml.apply_merge().unwrap();
        Self(serde_json::to_value(yaml).unwrap())
    }

    fn operations(&self) -> Vec<Operation> {
        let methods = [("get", Get), ("put", Put), ("patch", Patch)];
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (name, value) in item.as_object().unwrap() {
                let (_, method) = methods.into_iter().find(|(known, _)| known == name).unwrap();
                operations.push(Operation { method, path: path.clone(), value: value.clone() });
            }
        }
        operations
    }

    /// What a reference refers to, or the value itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(place) => self.0.pointer(place.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    /// Whether `value` is what `schema` says; as much of JSON Schema as the file uses. Objects have no other fields than
    /// those that are named.
    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        if value.is_null() && schema["nullable"] == true {
            return Ok(());
        }
        let schema = self.resolve(schema);
        let wrong = |what: &str| Err(format!("{value} is not {what} of {schema}"));
        let fits = match schema["type"].as_str().unwrap() {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other} is not looked at"),
        };
        if !fits {
            return wrong("the type");
        }
        if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
            return wrong("one");
        }
        let limit = |name: &str| schema[name].as_u64();
        if value.as_u64().is_some_and(|number| {
            limit("minimum").is_some_and(|min| number < min)
                || limit("maximum").is_some_and(|max| number > max)
        }) {
            return wrong("in the range");
        }
        value.as_array().into_iter().flatten().try_for_each(|item| self.check(&schema["items"], item))?;
        let none = Map::new();
        let fields = value.as_object().unwrap_or(&none);
        if let Some(missing) = required(schema).into_iter().find(|name| !fields.contains_key(name)) {
            return wrong(&format!("with the {missing}"));
        }
        fields.iter().try_for_each(|(name, field)| {
            match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
                Some(schema) => self.check(schema, field),
                None => Err(format!("{name} is no field of {schema}")),
            }
        })
    }
}

impl Operation {
    /// The path with a name in it.
    fn example_path(&self) -> String {
        self.path.split('{').next().unwrap().to_owned() + if self.path.contains('{') { "x" } else { "" }
    }

    fn example(&self) -> Option<&Value> {
        self.value.pointer("/requestBody/content/application~1json/example")
    }

    fn body_schema<'a>(&'a self, document: &'a Document) -> &'a Value {
        document.resolve(&self.value["requestBody"]["content"]["application/json"]["schema"])
    }

    fn answers(&self) -> BTreeSet<String> {
        self.value["responses"].as_object().unwrap().keys().cloned().collect()
    }

    /// Whether the server understands this body.
    fn understands(&self, body: &Value) -> Result<(), String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request =
            Request { method: self.method, path: self.example_path(), body: body.into(), closes: false };
        route::parse(&request).map(|_| ()).map_err(|error| error.to_string())
    }
}

fn required(schema: &Value) -> Vec<String> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_operation_is_routed_and_every_route_described() {
    let described: BTreeSet<_> =
        Document::read().operations().iter().map(|o| (o.path.clone(), o.method.name())).collect();
    let routed: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.path.to_owned(), route.method.name())).collect();
    assert_eq!(described, routed);
}

#[test]
fn methods_that_are_not_described_are_refused() {
    let document = Document::read();
    let operations = document.operations();
    let described = |path: &str, method| operations.iter().any(|o| o.path == path && o.method == method);
    let (mut api, _) = controller();
    for operation in &operations {
        for method in [Get, Put, Patch].into_iter().filter(|method| !described(&operation.path, *method)) {
            let response = ask(&mut api, method, &operation.example_path(), "{}");
            assert_eq!(response.status, Status::BadRequest);
            assert!(response.body.contains("Invalid request method and/or path"), "{}", response.body);
        }
    }
}

#[test]
fn examples_are_what_their_schemas_say_and_are_understood() {
    let document = Document::read();
    for operation in document.operations() {
        let place = format!("{} {}", operation.method, operation.path);
        match operation.example() {
            Some(example) => {
                document.check(operation.body_schema(&document), example).unwrap();
                operation.understands(example).unwrap();
                assert_eq!(operation.answers(), BTreeSet::from(["204".to_owned(), "400".to_owned()]));
            }
            None if operation.method == Get => {}
            None => {
                let refusal = operation.understands(&json!({})).unwrap_err();
                assert!(refusal.starts_with("this VMM does not have"), "{place}: {refusal}");
                assert_eq!(operation.answers(), BTreeSet::from(["400".to_owned()]), "{place}");
            }
        }
    }
}

#[test]
fn required_fields_are_required_others_are_not_and_unknown_ones_refused() {
    let document = Document::read();
    for operation in document.operations() {
        let Some(example) = operation.example() else { continue };
        let place = format!("{} {}", operation.method, operation.path);
        let schema = operation.body_schema(&document);
        let known: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
        for name in example.as_object().unwrap().keys() {
            let mut without = example.clone();
            without.as_object_mut().unwrap().remove(name);
            let understood = operation.understands(&without);
            // Of the two ways to name a snapshot's memory, one is needed.
            let needed = required(schema).contains(name) || name == "mem_backend";
            assert_eq!(understood.is_err(), needed, "{place} without {name}: {understood:?}");

            let mut wrong = example.clone();
            let of_another_type = if example[name].is_array() { json!("text") } else { json!([[]]) };
            wrong[name] = of_another_type;
            assert!(operation.understands(&wrong).is_err(), "{place} with a wrong {name}");
        }
        // What is described but not in the example is known to the server, too: it complains of its type.
        for name in known.iter().filter(|name| example.get(name.as_str()).is_none()) {
            let mut more = example.clone();
            more[name.as_str()] = json!([[]]);
            let error = operation.understands(&more).unwrap_err();
            assert!(!error.contains("unknown field"), "{place} {name}: {error}");
        }
        let mut more = example.clone();
        more["surprise"] = json!(1);
        let error = operation.understands(&more).unwrap_err();
        assert!(error.contains("unknown field `surprise`"), "{place}: {error}");
        assert!(operation.understands(&Value::Null).is_err(), "{place} without a body");
    }
}

/// Puts what the examples say, and starts the machine.
fn start(document: &Document, api: &mut Controller) {
    let dir = tempfile::tempdir().unwrap();
    for operation in document.operations() {
        let configures = operation.method == Put && !operation.path.starts_with("/snapshot");
        let Some(example) = operation.example().filter(|_| configures && operation.path != "/actions") else {
            continue;
        };
        let mut example = example.clone();
        match operation.path.as_str() {
            "/metrics" => example["metrics_path"] = json!(dir.path().join("m")),
            // There can be one.
            "/pmem/{id}" => example["root_device"] = json!(false),
            _ => {}
        }
        let response = ask(api, Put, &operation.example_path(), &example.to_string());
        assert_eq!(response.status, Status::NoContent, "{}: {}", operation.path, response.body);
    }
    let response = ask(api, Put, "/actions", r#"{"action_type": "InstanceStart"}"#);
    assert_eq!(response.status, Status::NoContent, "{}", response.body);
}

#[test]
fn answers_are_what_their_schemas_say() {
    let document = Document::read();
    let (mut fresh, _) = controller();
    let (mut started, _) = controller();
    start(&document, &mut started);
    for operation in document.operations().iter().filter(|operation| operation.method == Get) {
        let mut seen = BTreeSet::new();
        for api in [&mut fresh, &mut started] {
            let response = ask(api, Get, &operation.path, "");
            let code = response.status.code().to_string();
            let answer = document.resolve(&operation.value["responses"][&code]);
            let schema = &answer["content"]["application/json"]["schema"];
            document.check(schema, &serde_json::from_str(&response.body).unwrap()).unwrap();
            seen.insert(code);
        }
        assert!(seen.contains("200") || operation.answers() == seen, "{} never answers", operation.path);
    }
}

#[test]
fn the_description_is_of_this_version() {
    assert_eq!(Document::read().0["info"]["version"], env!("CARGO_PKG_VERSION"));
}
