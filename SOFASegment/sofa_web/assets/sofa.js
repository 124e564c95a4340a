// What trame's widgets cannot say: uploads, downloads, keys, and noticing that the session is no more.
(function () {
  const KEYS = { s: "segment", b: "boxes", c: "confidence", n: "next", p: "previous" };
  const WATCH_MS = 5000;
  // A proxy that restarts is away for a second or two: that is no reason to stop anybody's work.
  const RETRY_MS = 2000;
  const MISSES = 3;
  const PATIENCE_MS = 10000;

  function setState(name, value) {
    trame.state.set(name, value);
  }

  async function sentenceOf(response, otherwise) {
    try {
      return (await response.json()).sentence || otherwise;
    } catch {
      return otherwise;
    }
  }

  async function upload(files) {
    if (!files.length) return;
    const form = new FormData();
    for (const file of files) form.append("file", file, file.name);
    setState("failure", "");
    setState("opening", true);
    try {
      const response = await fetch("upload", { method: "POST", body: form });
      if (!response.ok) setState("failure", await sentenceOf(response, "The upload failed; try again."));
    } catch {
      setState("failure", "The upload broke off; check the connection and try again.");
    } finally {
      setState("opening", false);
    }
  }

  function chooseFiles() {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.addEventListener("change", () => offer([...input.files]));
    input.click();
  }

  async function download(address) {
    const response = await fetch(address);
    if (!response.ok) {
      setState("failure", response.status === 409 ? await response.text() : "The download failed; try again.");
      return;
    }
    const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = named ? named[1] : "sofa";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // Asks whether what is open may go; the files wait here for the answer.
  let waiting = [];

  async function offer(files) {
    waiting = files;
    if (files.length && (await trame.trigger("sofa_may_upload"))) upload(waiting);
  }

  // What lies over the page has the keyboard; the slim dialog of a box's edges leaves the views in use.
  function covered() {
    const over = [...document.querySelectorAll(".v-overlay--active")];
    if (document.querySelector(".sofa-lost") || over.some((node) => node.querySelector(".v-overlay__scrim"))) return "all";
    return over.length ? "keys" : "";
  }

  function keyPressed(event) {
    if (event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, [role=combobox], [role=listbox]")) return;
    const key = event.key.toLowerCase();
    const control = event.ctrlKey || event.metaKey;
    const taken = covered();
    if (taken === "all" || (taken && !control)) return;
    let name = null;
    if (control && key === "z") name = event.shiftKey ? "redo" : "undo";
    else if (control && key === "y") name = "redo";
    else if (!control && !event.altKey && event.key === "?") setState("keys_open", true);
    else if (!control && !event.altKey && !event.repeat) name = KEYS[key] || null;
    if (name) {
      event.preventDefault();
      trame.trigger("sofa_key", [name]);
    }
  }

  function showLost(sentence, button, action) {
    hideLost();
    const veil = document.createElement("div");
    veil.className = "sofa-lost";
    veil.setAttribute("role", "alertdialog");
    const box = veil.appendChild(document.createElement("div"));
    box.appendChild(document.createElement("p")).textContent = sentence;
    const again = box.appendChild(document.createElement("button"));
    again.textContent = button;
    again.addEventListener("click", action);
    document.body.appendChild(veil);
    again.focus();
  }

  function hideLost() {
    document.querySelector(".sofa-lost")?.remove();
  }

  // What the veil says while the server does not let this page in, or does not answer; "" without a veil.
  let lost = "";
  let missed = 0;
  // The page's own connection: trame does not open it again.
  let cut = false;

  function lose(why, sentence, button, action) {
    if (lost !== why) showLost(sentence, button, action);
    lost = why;
  }

  async function watch() {
    let response = null;
    try {
      response = await fetch("session", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    } catch {
      // No answer at all is one of the ways to miss one.
    }
    if (response?.status === 410) {
      const sentence = await sentenceOf(response, "This session has ended.");
      lose("ended", sentence, "Start a new session", () => window.location.assign("../../"));
      return; // nothing brings it back
    }
    if (response?.ok) {
      // The scene is where it was: a reload shows it as it is.
      if (lost || cut) window.location.reload();
      missed = 0;
    } else if (response?.status === 401) {
      lose(
        "stranger",
        "The server no longer knows this browser, as after a restart. Open the link that “sofa view” printed again.",
        "Enter the token",
        () => window.location.assign("../../"),
      );
    } else if (++missed >= MISSES) {
      lose("silent", "The connection to the server is lost. This page goes on by itself when it is back.", "Try now", () =>
        window.location.reload(),
      );
    }
    setTimeout(watch, missed ? RETRY_MS : WATCH_MS);
  }

  function clicked(event) {
    const button = event.target.closest("[data-sofa-upload], [data-sofa-download], [data-sofa-go-on]");
    if (!button || button.disabled) return;
    if (button.hasAttribute("data-sofa-go-on")) {
      if (button.dataset.sofaGoOn === "upload") upload(waiting);
    } else if (button.dataset.sofaDownload) download(button.dataset.sofaDownload);
    else chooseFiles();
  }

  window.addEventListener("click", clicked);
  window.addEventListener("keydown", keyPressed);
  window.addEventListener("focusin", (event) => {
    if (event.target.matches?.(".sofa-question > .v-overlay__content")) event.target.querySelector("[data-sofa-cancel]").focus();
  });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    offer([...event.dataTransfer.files]);
  });
  trame.client.onConnectionClose(() => {
    cut = true;
  });
  setTimeout(watch, WATCH_MS);
})();
