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

  // `files` are pairs: a file, and its path in what was chosen.
  function send(files, onPercent) {
    const form = new FormData();
    for (const [file, path] of files) form.append("file", file, path);
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch does not say how much has been sent
      request.open("POST", "upload");
      request.upload.onprogress = (event) => onPercent(Math.floor((100 * event.loaded) / event.total));
      request.onload = () => resolve(new Response(request.responseText, { status: request.status }));
      request.onerror = reject;
      request.send(form);
    });
  }

  async function upload(files) {
    let shown = 0;
    setState("failure", "");
    setState("opening", true);
    setState("upload_percent", 0);
    try {
      const response = await send(files, (percent) => {
        if (percent !== shown) setState("upload_percent", percent < 100 ? (shown = percent) : null);
      });
      if (!response.ok) {
        const tooLarge = "The proxy in front of this server refuses uploads of this size; ask whoever runs it.";
        setState("failure", await sentenceOf(response, response.status === 413 ? tooLarge : "The upload failed; try again."));
      }
    } catch {
      setState("failure", "The upload broke off; check the connection and try again.");
    } finally {
      setState("opening", false);
      setState("upload_percent", null);
    }
  }

  // Asks whether what is open may go; the files wait here for the answer.
  let waiting = [];

  async function offer(files) {
    waiting = withoutCommonFolder(files.filter(([, path]) => !path.split("/").some((part) => part.startsWith("."))));
    if (!waiting.length) setState("failure", "There are no files in what was chosen; choose the sequences of one patient.");
    else if (await trame.trigger("sofa_may_upload")) upload(waiting);
  }

  // The server looks for volumes near the top.
  function withoutCommonFolder(files) {
    const folders = new Set(files.map(([, path]) => (path.includes("/") ? path.split("/")[0] : "")));
    if (folders.size !== 1 || folders.has("")) return files;
    return withoutCommonFolder(files.map(([file, path]) => [file, path.slice(path.indexOf("/") + 1)]));
  }

  function chooseFiles(what) {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.webkitdirectory = what === "folder";
    input.addEventListener("change", () => offer([...input.files].map((file) => [file, file.webkitRelativePath || file.name])));
    input.click();
  }

  async function filesIn(entry, folder = "") {
    if (entry.isFile) return [[await new Promise((resolve, reject) => entry.file(resolve, reject)), folder + entry.name]];
    const reader = entry.createReader();
    const found = [];
    // It hands over a hundred at a time.
    for (;;) {
      const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!entries.length) return found;
      for (const inner of entries) found.push(...(await filesIn(inner, `${folder}${entry.name}/`)));
    }
  }

  async function dropped(event) {
    event.preventDefault();
    // All at once: what was dropped is forgotten when this event is over.
    const carried = [...event.dataTransfer.items]
      .filter((item) => item.kind === "file")
      .map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
    if (!carried.length || covered() === "all") return;
    try {
      const found = await Promise.all(carried.map(([entry, file]) => (entry ? filesIn(entry) : [[file, file.name]])));
      await offer(found.flat());
    } catch {
      setState("failure", "What was dropped cannot be read; check that you may read all of its files.");
    }
  }

  async function download(address) {
    const response = await fetch(address);
    if (!response.ok) {
      setState("failure", response.status === 409 ? await response.text() : "The download failed; try again.");
      return;
    }
    const named = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = named ? decodeURIComponent(named[1]) : "sofa";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
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
    else chooseFiles(button.dataset.sofaUpload);
  }

  window.addEventListener("click", clicked);
  window.addEventListener("keydown", keyPressed);
  window.addEventListener("focusin", (event) => {
    if (event.target.matches?.(".sofa-question > .v-overlay__content")) event.target.querySelector("[data-sofa-cancel]").focus();
  });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", dropped);
  trame.client.onConnectionClose(() => {
    cut = true;
  });
  setTimeout(watch, WATCH_MS);
})();
