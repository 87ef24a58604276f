"""Cities in which the simulated customers live and to which they travel."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_KM = 6_371.0088  # mean radius, IUGG


class City(NamedTuple):
    """Weights: `home` for living there, `visit` for travelling there. Degrees of the centre."""

    name: str
    country: str
    lat: float
    lon: float
    home: float
    visit: float
    currency: str


CITIES = (
    City("Berlin", "DE", 52.5200, 13.4050, 3.7, 1.5, "EUR"),
    City("Hamburg", "DE", 53.5511, 9.9937, 1.9, 1.0, "EUR"),
    City("Munich", "DE", 48.1351, 11.5820, 1.5, 1.2, "EUR"),
    City("Cologne", "DE", 50.9375, 6.9603, 1.1, 0.8, "EUR"),
    City("Frankfurt", "DE", 50.1109, 8.6821, 0.8, 0.6, "EUR"),
    City("Stuttgart", "DE", 48.7758, 9.1829, 0.6, 0.4, "EUR"),
    City("Leipzig", "DE", 51.3397, 12.3731, 0.6, 0.4, "EUR"),
    City("Dresden", "DE", 51.0504, 13.7373, 0.6, 0.5, "EUR"),
    City("Hanover", "DE", 52.3759, 9.7320, 0.5, 0.3, "EUR"),
    City("Nuremberg", "DE", 49.4521, 11.0767, 0.5, 0.3, "EUR"),
    City("Vienna", "AT", 48.2082, 16.3738, 1.9, 1.2, "EUR"),
    City("Graz", "AT", 47.0707, 15.4395, 0.3, 0.3, "EUR"),
    City("Paris", "FR", 48.8566, 2.3522, 0.0, 1.6, "EUR"),
    City("Amsterdam", "NL", 52.3676, 4.9041, 0.0, 1.2, "EUR"),
    City("Rome", "IT", 41.9028, 12.4964, 0.0, 1.4, "EUR"),
    City("Barcelona", "ES", 41.3874, 2.1686, 0.0, 1.5, "EUR"),
    City("Palma", "ES", 39.5696, 2.6502, 0.0, 1.8, "EUR"),
    City("Lisbon", "PT", 38.7223, -9.1393, 0.0, 1.0, "EUR"),
    City("Athens", "GR", 37.9838, 23.7275, 0.0, 0.9, "EUR"),
    City("London", "GB", 51.5074, -0.1278, 0.0, 1.4, "GBP"),
    City("Zurich", "CH", 47.3769, 8.5417, 0.0, 0.8, "CHF"),
    City("Prague", "CZ", 50.0755, 14.4378, 0.0, 1.0, "CZK"),
    City("Warsaw", "PL", 52.2297, 21.0122, 0.0, 0.7, "PLN"),
    City("Copenhagen", "DK", 55.6761, 12.5683, 0.0, 0.6, "DKK"),
    City("Antalya", "TR", 36.8969, 30.7133, 0.0, 1.4, "TRY"),
    City("Dubai", "AE", 25.2048, 55.2708, 0.0, 0.6, "AED"),
    City("New York", "US", 40.7128, -74.0060, 0.0, 0.6, "USD"),
    City("Miami", "US", 25.7617, -80.1918, 0.0, 0.3, "USD"),
    City("Bangkok", "TH", 13.7563, 100.5018, 0.0, 0.5, "THB"),
    City("Tokyo", "JP", 35.6762, 139.6503, 0.0, 0.3, "JPY"),
    City("Sao Paulo", "BR", -23.5505, -46.6333, 0.0, 0.2, "BRL"),
    City("Lagos", "NG", 6.5244, 3.3792, 0.0, 0.1, "NGN"),
)
HOME_CITY_COUNT = sum(city.home > 0 for city in CITIES)
COUNTRIES = (*dict.fromkeys(city.country for city in CITIES), "LU", "IE")
CITY_LAT = np.array([city.lat for city in CITIES])
CITY_LON = np.array([city.lon for city in CITIES])
CITY_COUNTRY = np.array([COUNTRIES.index(city.country) for city in CITIES], dtype=np.int16)
HOME_COUNTRIES = ("DE", "AT")
FOREIGN_CITY = np.array([city.country not in HOME_COUNTRIES for city in CITIES])
UTC_OFFSET_MINUTES = 60  # of all home cities; summer time is left out


def distance_km(lat_1: Any, lon_1: Any, lat_2: Any, lon_2: Any) -> NDArray[np.float64]:
    """Great-circle distance between points in degrees (haversine formula)."""
    phi_1, phi_2 = np.radians(lat_1), np.radians(lat_2)
    half_lat = (phi_2 - phi_1) / 2
    half_lon = np.radians(np.asarray(lon_2) - np.asarray(lon_1)) / 2
    chord = np.sin(half_lat) ** 2 + np.cos(phi_1) * np.cos(phi_2) * np.sin(half_lon) ** 2
    distance: NDArray[np.float64] = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(chord))
    return distance


CITY_DISTANCE_KM = distance_km(
    CITY_LAT[:, None], CITY_LON[:, None], CITY_LAT[None, :], CITY_LON[None, :]
)
