//! The description of the API for people: one page that needs nothing else, made once at the start.
//!
//! No script, and nothing from elsewhere: it works on a machine without a network, and its policy says so to the browser.

use std::fmt::{self, Write};

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// Text and the style within the page, nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
code{font:14px ui-monospace,monospace}section{border-top:1px solid #ccc;margin-top:1.5rem}\
table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}.method{text-transform:uppercase}";

/// The page, as it is given to everybody.
#[derive(Clone, Debug)]
pub(crate) struct Page(String);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (CACHE_CONTROL, HeaderValue::from_static(super::router::PUBLIC)),
        ];
        (headers, self.0).into_response()
    }
}

impl Page {
    /// The page of a description, `OpenAPI` 3.1 as JSON.
    pub(crate) fn of(description: &Value) -> Self {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = write_page(&mut page, description);
        Self(page)
    }
}

fn write_page(out: &mut String, description: &Value) -> fmt::Result {
    let (title, about) = (text(&description["info"]["title"]), text(&description["info"]["description"]));
    write!(out, "<!doctype html><html lang=en><meta charset=utf-8><title>{title}: the HTTP API</title>")?;
    write!(out, "<style>{STYLE}</style><h1>{title}: the HTTP API</h1><p>{about}</p>")?;
    write!(out, "<p>For machines: <a href=/v1/openapi.json><code>/v1/openapi.json</code></a>.</p><ul>")?;
    for (path, method, _) in operations(description) {
        let anchor = anchor(method, path);
        write!(out, "<li><a href=\"#{anchor}\"><code><span class=method>{}</span>", escaped(method))?;
        write!(out, " {}</code></a></li>", escaped(path))?;
    }
    write!(out, "</ul>")?;
    for (path, method, operation) in operations(description) {
        write_operation(out, path, method, operation)?;
    }
    write!(out, "<h2>What goes over the wire</h2>")?;
    for (name, schema) in fields(&description["components"]["schemas"]) {
        let name = escaped(name);
        write!(out, "<section id=\"{name}\"><h3>{name}</h3><p>{}</p>", text(&schema["description"]))?;
        write_shape(out, schema)?;
        write!(out, "</section>")?;
    }
    Ok(())
}

fn write_operation(out: &mut String, path: &str, method: &str, operation: &Value) -> fmt::Result {
    write!(out, "<section id=\"{}\"><h2><code><span class=method>", anchor(method, path))?;
    write!(out, "{}</span> {}</code></h2>", escaped(method), escaped(path))?;
    write!(out, "<p>{}</p><p>{}</p>", text(&operation["summary"]), text(&operation["description"]))?;
    if operation.get("security").is_some() {
        write!(out, "<p>Needs a bearer token.</p>")?;
    }
    write!(out, "<table>")?;
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
        write!(out, "<tr><td><code>{name}</code><td>{place}<td>{}", text(&parameter["description"]))?;
    }
    for (media, content) in fields(&operation["requestBody"]["content"]) {
        write!(out, "<tr><td>body<td>{}<td>", escaped(media))?;
        write_type(out, &content["schema"])?;
    }
    for (status, response) in fields(&operation["responses"]) {
        write!(out, "<tr><td><code>{}</code><td>", escaped(status))?;
        for (_, content) in fields(&response["content"]) {
            write_type(out, &content["schema"])?;
        }
        write!(out, "<td>{}", text(&response["description"]))?;
    }
    write!(out, "</table></section>")
}

/// The fields of a schema, of all that it is made of.
fn write_shape(out: &mut String, schema: &Value) -> fmt::Result {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().map(|value| format!("<code>{}</code>", text(value))).collect();
        write!(out, "<p>One of {}.</p>", values.join(", "))?;
    }
    write!(out, "<table>")?;
    for (name, field) in fields(&schema["properties"]) {
        write!(out, "<tr><td><code>{}</code><td>", escaped(name))?;
        write_type(out, field)?;
        write!(out, "<td>{}", text(&field["description"]))?;
    }
    write!(out, "</table>")?;
    for kind in ["allOf", "oneOf", "anyOf"] {
        for part in schema[kind].as_array().into_iter().flatten() {
            write!(out, "<p>{}: ", if kind == "allOf" { "and" } else { "or" })?;
            write_type(out, part)?;
            write!(out, "</p>")?;
            write_shape(out, part)?;
        }
    }
    Ok(())
}

/// What a value is, in a word or a link.
fn write_type(out: &mut String, schema: &Value) -> fmt::Result {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escaped(name);
        return write!(out, "<a href=\"#{name}\">{name}</a>");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => {
            write!(out, "list of ")?;
            write_type(out, &schema["items"])
        }
        Value::String(name) => write!(out, "{}", escaped(name)),
        Value::Array(names) => {
            let names: Vec<_> = names.iter().map(text).collect();
            write!(out, "{}", names.join(" or "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Ok(()),
    }
}

fn operations(description: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    fields(&description["paths"])
        .flat_map(|(path, item)| fields(item).map(move |(method, operation)| (&**path, &**method, operation)))
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn anchor(method: &str, path: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("{method}{path}").chars().map(plain).collect()
}

/// A string of the description for the page; nothing for what is none.
fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_description_says_is_text_and_never_markup() {
        let evil = "<script>\"&";
        let description = json!({
            "info": { "title": evil, "description": evil },
            "paths": { evil: { "get": { "summary": evil, "responses": { "200": { "description": evil } } } } },
            "components": { "schemas": { "Thing": { "description": evil, "properties": { evil: { "type": evil } } } } },
        });
        let Page(page) = Page::of(&description);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;&quot;&amp;"), "{page}");
    }
}
