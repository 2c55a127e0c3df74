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

    def series(self, alarm):
        dimensions = frozenset((dimension["Name"], dimension["Value"]) for dimension in alarm["Dimensions"])
        return self.values.get((alarm["Namespace"], alarm["MetricName"], dimensions), [])


def statistic(alarm, values):
    if percentile := alarm.get("ExtendedStatistic"):
        rank = math.ceil(float(percentile.removeprefix("p")) / 100 * len(values))
        return sorted(values)[max(rank, 1) - 1]
    return STATISTICS[alarm["Statistic"]](values)


def state(alarm, metrics, now):
    """Returns the state at second `now`: `ALARM` if enough of the last periods breach the threshold, else `OK`."""
    series = metrics.series(alarm)
    breaches = []
    for number in range(alarm["EvaluationPeriods"]):
        end = now - number * alarm["Period"]
        values = [value for second, value in series if end - alarm["Period"] <= second < end]
        if values:
            breaches.append(COMPARE[alarm["ComparisonOperator"]](statistic(alarm, values), alarm["Threshold"]))
        else:
            breaches.append(alarm["TreatMissingData"] == "breaching")
    enough = alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    return "ALARM" if sum(breaches) >= enough else "OK"
