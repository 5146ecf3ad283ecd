"use strict";
// The chat's page. What others wrote reaches the page by textContent only, never as HTML.

const $ = (id) => document.getElementById(id);
const STATES = { waiting: "Waiting", sent: "Sent", delivered: "Delivered", read: "Read", refused: "Refused" };
const RECONNECT_MS = [500, 1000, 2000, 5000];

// The token comes behind the # of the address, which goes to no server, and stays with this tab.
if (location.hash.length > 1) {
  sessionStorage.setItem("token", location.hash.slice(1));
  history.replaceState(null, "", "/");
}
const token = sessionStorage.getItem("token") || "";

let contacts = new Map();
let chosen = null;          // the key of the contact whose conversation is shown
let items = new Map();      // seq of a message -> its list item
let sending = false;

async function ask(path, body) {
  const how = { headers: { Authorization: `Bearer ${token}` } };
  if (body !== undefined) {
    how.method = "POST";
    how.headers["Content-Type"] = "application/json";
    how.body = JSON.stringify(body);
  }
  const reply = await fetch(path, how);
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error || reply.statusText);
  return said;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function tell(text) {
  $("said").textContent = text;
}

async function tried(work) {
  try {
    await work();
    trouble("");
  } catch (error) {
    trouble(error.message);
  }
}

function make(tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

// Contacts.

function presence(contact) {
  if (contact.kind === "blocked") return "Blocked";
  return contact.online ? "Connected" : "Away";
}

async function loadContacts() {
  const said = await ask("/api/contacts");
  contacts = new Map(said.contacts.map((contact) => [contact.key, contact]));
  $("own").textContent = said.own || "known once a contact is connected";
  $("text").maxLength = said.longest;
  $("nobody").hidden = contacts.size > 0;
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : null;
  $("contacts").replaceChildren(...said.contacts.map(contactItem));
  if (focused) {
    const again = $("contacts").querySelector(`[data-key="${focused}"]`);
    if (again) again.focus();
  }
  const unread = said.contacts.reduce((sum, contact) => sum + contact.unread, 0);
  document.title = unread ? `(${unread}) Skywire chat` : "Skywire chat";
  if (chosen) showHead();
}

function contactItem(contact) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.key = contact.key;
  button.setAttribute("aria-current", String(contact.key === chosen));
  button.append(make("span", "name", contact.name));
  const state = make("span", contact.online ? "state on" : "state", presence(contact));
  if (contact.unread) {
    const unread = make("span", "unread", String(contact.unread));
    unread.append(make("span", "unseen", " unread"));
    state.append(" ", unread);
  }
  button.append(state);
  if (contact.last) button.append(make("span", "last", (contact.last.mine ? "You: " : "") + contact.last.text));
  button.addEventListener("click", () => choose(contact.key));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function showHead() {
  const contact = contacts.get(chosen);
  if (!contact) return leave();
  $("who").textContent = contact.name;
  const waits = "messages wait here and are sent when they are back";
  $("presence").textContent = presence(contact) + (contact.online || contact.kind === "blocked" ? "" : ` – ${waits}`);
  $("presence").title = contact.problem;
  $("stranger").hidden = contact.kind !== "stranger";
  $("block").textContent = contact.kind === "blocked" ? "Unblock" : "Block";
}

async function choose(key) {
  chosen = key;
  $("talk").hidden = false;
  $("none").hidden = true;
  $("naming").hidden = true;
  $("more").open = false;
  document.body.classList.add("talking");
  for (const button of $("contacts").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset.key === key));
  }
  showHead();
  await tried(async () => {
    await loadMessages();
    $("text").focus();
  });
}

function leave() {
  const key = chosen;
  chosen = null;
  $("talk").hidden = true;
  $("none").hidden = false;
  document.body.classList.remove("talking");
  for (const button of $("contacts").querySelectorAll("button")) {
    button.setAttribute("aria-current", "false");
    if (button.dataset.key === key) button.focus();
  }
}

// Messages.

async function loadMessages() {
  const key = chosen;
  const said = await ask(`/api/messages?contact=${key}`);
  if (key !== chosen) return;
  items = new Map();
  $("scroll").setAttribute("aria-busy", "true");
  $("messages").replaceChildren(...said.messages.map(messageItem));
  $("scroll").setAttribute("aria-busy", "false");
  $("older").hidden = !said.more;
  toEnd();
  seen();
}

async function loadOlder() {
  const key = chosen;
  const first = Math.min(...items.keys());
  const said = await ask(`/api/messages?contact=${key}&before=${first}`);
  if (key !== chosen) return;
  const before = $("scroll").scrollHeight;
  $("messages").prepend(...said.messages.map(messageItem));
  $("older").hidden = !said.more;
  $("scroll").scrollTop += $("scroll").scrollHeight - before;
}

function how(message) {
  const when = new Date(message.at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  if (!message.mine) return when;
  return `${when} · ${STATES[message.state]}${message.why ? `: ${message.why}` : ""}`;
}

function messageItem(message) {
  const item = document.createElement("li");
  const contact = contacts.get(message.contact);
  item.append(make("span", "unseen", message.mine ? "You: " : `${contact ? contact.name : "They"}: `));
  item.append(make("span", "text", message.text), make("div", "how", ""));
  items.set(message.seq, item);
  update(item, message);
  return item;
}

function update(item, message) {
  item.className = (message.mine ? "mine " : "theirs ") + message.state;
  item.dataset.state = message.state;
  item.querySelector(".how").textContent = how(message);
}

function onMessage(message) {
  if (message.contact === chosen) {
    const item = items.get(message.seq);
    if (item) {
      update(item, message);
    } else {
      const close = $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 120;
      $("messages").append(messageItem(message));
      if (close || message.mine) toEnd();
      seen();
    }
  } else if (!message.mine) {
    const contact = contacts.get(message.contact);
    tell(`New message from ${contact ? contact.name : "somebody new"}`);
  }
  soonContacts();
}

function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

// What is on the screen counts as read, what is in a hidden tab does not.
function seen() {
  if (!chosen || document.visibilityState !== "visible" || !items.size) return;
  const last = Math.max(...items.keys());
  tried(() => ask("/api/show", { contact: chosen, up_to: last }));
}

// Events.

let soon = 0;
function soonContacts() {
  if (soon) return;
  soon = setTimeout(() => {
    soon = 0;
    tried(loadContacts);
  }, 50);
}

async function follow() {
  for (let failures = 0; ; failures += 1) {
    try {
      // Not EventSource: it cannot send the token in a header.
      const reply = await fetch("/api/events", { headers: { Authorization: `Bearer ${token}` } });
      if (!reply.ok) throw new Error((await reply.json()).error);
      await loadContacts();
      if (chosen) await loadMessages();
      $("link").textContent = "Ready";
      trouble("");
      failures = 0;
      await events(reply.body.getReader());
    } catch (error) {
      trouble(error instanceof TypeError ? "The chat app does not answer; it is tried again." : error.message);
    }
    $("link").textContent = "Connecting …";
    await new Promise((done) => setTimeout(done, RECONNECT_MS[Math.min(failures, RECONNECT_MS.length - 1)]));
  }
}

async function events(reader) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (!data) continue;
      const event = JSON.parse(data.slice(6));
      if (event.event === "message") onMessage(event.message);
      else if (event.event === "contact") soonContacts();
    }
  }
}

// What people do.

$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  tried(async () => {
    const key = $("key").value.trim().toLowerCase();
    await ask("/api/contacts", { contact: key, name: $("name").value });
    $("add").reset();
    await loadContacts();
    await choose(key);
    tell("Contact added");
  });
});

$("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (sending || !text.trim()) return;
  sending = true;
  tried(async () => {
    await ask("/api/messages", { contact: chosen, text });
    $("text").value = "";
  }).finally(() => { sending = false; });
});

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("write").requestSubmit();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && $("more").open) {
    $("more").open = false;
    $("more").querySelector("summary").focus();
  } else if (event.key === "Escape" && chosen) {
    leave();
  }
});

$("back").addEventListener("click", leave);
$("older").addEventListener("click", () => tried(loadOlder));
$("copy").addEventListener("click", () => tried(async () => {
  await navigator.clipboard.writeText($("own").textContent);
  tell("Your key is copied");
}));
$("rename").addEventListener("click", () => {
  $("more").open = false;
  $("naming").hidden = false;
  $("newname").value = contacts.get(chosen).name;
  $("newname").focus();
});
$("naming").addEventListener("submit", (event) => {
  event.preventDefault();
  $("naming").hidden = true;
  tried(() => ask("/api/contacts", { contact: chosen, name: $("newname").value }));
});
$("accept").addEventListener("click", () => {
  tried(() => ask("/api/contacts", { contact: chosen, name: contacts.get(chosen).name }));
});
$("block").addEventListener("click", () => {
  $("more").open = false;
  tried(() => ask("/api/block", { contact: chosen, blocked: contacts.get(chosen).kind !== "blocked" }));
});
$("remove").addEventListener("click", () => {
  $("more").open = false;
  if (confirm("Remove this contact and the whole conversation?")) {
    tried(() => ask("/api/remove", { contact: chosen }));
  }
});
document.addEventListener("visibilitychange", seen);

follow();
