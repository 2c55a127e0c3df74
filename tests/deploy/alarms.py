"""Evaluates the template's alarms on given metrics, by the subset of CloudWatch's rules that these alarms use.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html
"""

import math
import operator

COMPARE = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
STATISTICS = {"Sum": sum, "Maximum": max, "Minimum": min, "Average": lambda values: sum(values) / len(values), "SampleCount": len}


class Metrics:
    """Values by metric and time, as in CloudWatch."""

    def __init__(self):
        self.values = {}

    def put(self, namespace, name, dimensions, second, *values):
        series = self.values.setdefault((namespace, name, frozenset(dimensions.items())), [])
        series.extend((second, value) for value in values)

    def put_line(self, line, second):
        """Adds every metric of a line in CloudWatch's embedded metric format."""
        for definition in line["_aws"]["CloudWatchMetrics"]:
            for names in definition["Dimensions"]:
                dimensions = {name: line[name] for name in names}
                for metric in definition["Metrics"]:
                    value = line[metric["Name"]]
                    self.put(definition["Namespace"], metric["Name"], dimensions, second, *(value if isinstance(value, list) else [value]))

    def series(self, metric):
        dimensions = frozenset((dimension["Name"], dimension["Value"]) for dimension in metric["Dimensions"])
        return self.values.get((metric["Namespace"], metric["MetricName"], dimensions), [])


def parts(alarm):
    """Returns the metrics of an alarm by their ids: `{id: {metric, period, statistic}}`, and the expression on these ids."""
    if "Metrics" not in alarm:
        return {"metric": {**alarm, "Stat": alarm.get("Statistic") or alarm["ExtendedStatistic"]}}, "metric"
    [expression] = [part["Expression"] for part in alarm["Metrics"] if "Expression" in part]
    stats = {part["Id"]: part["MetricStat"] for part in alarm["Metrics"] if "MetricStat" in part}
    return {name: {**stat["Metric"], "Period": stat["Period"], "Stat": stat["Stat"]} for name, stat in stats.items()}, expression


def statistic(name, values):
    if name.startswith("p"):
        rank = math.ceil(float(name.removeprefix("p")) / 100 * len(values))
        return sorted(values)[max(rank, 1) - 1]
    return STATISTICS[name](values)


def value(alarm, metrics, now, number):
    """Returns the value in a period, counted backwards from the last one; `None` if a metric has none."""
    metrics_by_id, expression = parts(alarm)
    variables = {}
    for name, metric in metrics_by_id.items():
        end = now - number * metric["Period"]
        values = [value for second, value in metrics.series(metric) if end - metric["Period"] <= second < end]
        if not values:
            return None
        variables[name] = statistic(metric["Stat"], values)
    # CloudWatch's sums and differences of metrics are those of Python.
    return eval(expression, {"__builtins__": {}}, variables)


def state(alarm, metrics, now):
    """Returns the state at second `now`: `ALARM` if enough of the last periods breach the threshold, else `OK`."""
    breaches = []
    for number in range(alarm["EvaluationPeriods"]):
        found = value(alarm, metrics, now, number)
        if found is None:
            breaches.append(alarm["TreatMissingData"] == "breaching")
        else:
            breaches.append(COMPARE[alarm["ComparisonOperator"]](found, alarm["Threshold"]))
    enough = alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    return "ALARM" if sum(breaches) >= enough else "OK"
