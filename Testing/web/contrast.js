// Texts whose contrast with what lies behind them is below WCAG 2's AA; disabled controls are exempt there as here.
() => {
    const EXEMPT = "[disabled], .v-btn--disabled, .v-input--disabled, .v-list-item--disabled, script, style";
    const TINT = ":scope > .v-btn__underlay, :scope > .v-alert__underlay";
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (css) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = css;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
    const luminance = (rgb) => {
        const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const chain = (node) => (node ? [...chain(node.parentElement), node] : []);
    const faint = [];
    for (const node of document.querySelectorAll("body *")) {
        const text = [...node.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
        if (!text || !node.checkVisibility({ visibilityProperty: true })) continue;
        if (node.closest(EXEMPT)) continue;
        let behind = [255, 255, 255];
        let opacity = 1;
        for (const ancestor of chain(node)) {
            const style = getComputedStyle(ancestor);
            behind = over(rgba(style.backgroundColor), behind);
            opacity *= Number(style.opacity);
        }
        // Vuetify tints a button by a layer of its text's colour.
        const tint = node.closest(".v-btn, .v-alert")?.querySelector(TINT);
        const style = getComputedStyle(node);
        const ink = rgba(style.color);
        if (tint && getComputedStyle(tint).backgroundColor !== "rgba(0, 0, 0, 0)") {
            const layer = rgba(getComputedStyle(tint).backgroundColor);
            layer[3] *= Number(getComputedStyle(tint).opacity);
            behind = over(layer, behind);
        }
        ink[3] *= opacity;
        const [light, dark] = [luminance(over(ink, behind)), luminance(behind)].sort((a, b) => b - a);
        const contrast = (light + 0.05) / (dark + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (contrast < (large ? 3 : 4.5)) faint.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}
