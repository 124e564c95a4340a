// What trame's widgets cannot say: uploads, downloads, keys, and noticing that the session is no more.
(function () {
  const KEYS = { s: "segment", b: "boxes", c: "confidence", n: "next", p: "previous" };
  const WATCH_MS = 5000;

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
    input.addEventListener("change", () => upload([...input.files]));
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

  function keyPressed(event) {
    if (event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, [role=combobox], [role=listbox]")) return;
    const key = event.key.toLowerCase();
    const control = event.ctrlKey || event.metaKey;
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
    if (document.querySelector(".sofa-lost")) return;
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

  async function watch() {
    try {
      const response = await fetch("session", { cache: "no-store" });
      if (response.status === 410) {
        const sentence = await sentenceOf(response, "This session has ended.");
        showLost(sentence, "Start a new session", () => window.location.assign("../../"));
        return;
      }
    } catch {
      showLost("The connection to the server is lost.", "Connect again", () => window.location.reload());
      return;
    }
    setTimeout(watch, WATCH_MS);
  }

  function clicked(event) {
    const button = event.target.closest("[data-sofa-upload], [data-sofa-download]");
    if (!button || button.disabled) return;
    if (button.dataset.sofaDownload) download(button.dataset.sofaDownload);
    else chooseFiles();
  }

  window.addEventListener("click", clicked);
  window.addEventListener("keydown", keyPressed);
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    upload([...event.dataTransfer.files]);
  });
  setTimeout(watch, WATCH_MS);
})();
