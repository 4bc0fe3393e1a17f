"""Reads the metrics of a broker with the parsers of Prometheus' Python client, in both formats.

client.py URL NAME...: fails where a parser finds fault, where the formats do not tell of the same metrics, or where one of
the samples that are named is not above 0 in both.
"""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

# As Prometheus asks.
PREFERS_OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"


def scrape(url, accept, media_type, parse):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        if answer.headers.get_content_type() != media_type:
            sys.exit(f"{accept} is answered by {answer.headers['Content-Type']}")
        families = list(parse(answer.read().decode()))
    sums = {}
    for sample in (sample for family in families for sample in family.samples):
        sums[sample.name] = sums.get(sample.name, 0) + sample.value
    untold = [family.name for family in families if family.type == "unknown" or not family.documentation]
    if untold:
        sys.exit(f"without type or help: {untold}")
    return {(family.name, family.type) for family in families}, sums


def main(url, *names):
    plain, plain_sums = scrape(url, "*/*", "text/plain", prometheus)
    opened, opened_sums = scrape(url, PREFERS_OPENMETRICS, "application/openmetrics-text", openmetrics)
    if plain != opened:
        sys.exit(f"the formats differ in {plain ^ opened}")
    for name in names:
        if not (plain_sums.get(name, 0) > 0 and opened_sums.get(name, 0) > 0):
            sys.exit(f"{name} is {plain_sums.get(name)} and {opened_sums.get(name)}")
    print(len(plain))


main(*sys.argv[1:])
