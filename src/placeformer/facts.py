"""What a network is: the facts that the report lists, each with what it means."""

from __future__ import annotations

from html import escape

from placeformer.activation import K_MG_MM, alpha_to_mg
from placeformer.findings import number
from placeformer.portrait import Portrait


def facts(portrait: Portrait) -> str:
    """List what the network is."""
    body = "\n".join(
        f'<tr><th scope="row">{label}</th><td>{value}</td></tr>' for label, value in rows(portrait)
    )
    return f'<div class="scroll"><table><tbody>\n{body}\n</tbody></table></div>'


def rows(portrait: Portrait) -> list[tuple[str, str]]:
    """Label and value of every fact."""
    model, config = portrait.model, portrait.model.config
    n = sum(weight.numel() for weight in model.parameters())
    found = [
        ("Activation", activation(portrait)),
        ("Parameters", number(f"{portrait.name}/parameters", n, f"{n:,}", "trained weights")),
        ("Layers", f"{config.n_layers}, width {config.d_model}, {config.n_heads} heads"),
        ("Feed-forward units", f"{config.d_inner} a layer"),
        ("Path integrator", f"width {config.d_rnn}"),
        ("Attention", f"{config.memory} remembered steps and chunks of {config.chunk}"),
    ]
    if (world := model.world) is not None:
        size = f"{world.side} × {world.side} places, {world.n_letters} letters"
        found += [("Maps", f"{world.n_maps} trained, {world.n_maps} novel (seed {world.seed})")]
        found += [("World", size)]
    source = str(model.info.get("source", ""))
    found += [("Source", escape(source) if source.startswith(("zoo", "hf:")) else "a folder")]
    found += results(portrait)
    sha = escape(str(model.info.get("sha256", "")))
    return [*found, ("Weights, sha256", f"<code>{sha}</code>")]


def activation(portrait: Portrait) -> str:
    """Name the activation, with α and the Mg²⁺ it stands for."""
    config = portrait.model.config
    if config.alpha is None:
        return escape(config.activation)
    mg = alpha_to_mg(config.alpha)
    about = f"α = [Mg²⁺] / K_Mg with K_Mg = {K_MG_MM} mM"
    alpha = number(f"{portrait.name}/alpha", config.alpha, f"{config.alpha:g}", about)
    ions = number(f"{portrait.name}/mg_mM", mg, f"{mg:.3g}", about)
    return f"NMDA<sub>α</sub>, α = {alpha} ([Mg²⁺] = {ions} mM)"


def results(portrait: Portrait) -> list[tuple[str, str]]:
    """Results stored with the network, with their definitions."""
    info, found = portrait.model.info, []
    for name, value in info.get("results", {}).items():
        label = f"{escape(name.replace('_', ' ').capitalize())} (stored)"
        key, about = f"{portrait.name}/stored/{name}", info["definitions"].get(name, "")
        found.append((label, number(key, value, f"{value:.4g}", about)))
    return found
